"""The gateway's spans: Envoy begins the trace of each request, and sends spans by OTLP over gRPC. No Pulumi."""

from __future__ import annotations

from components.mesh.envoy_base import Json, typed
from components.mesh.routes import Spans

CLUSTER = "spans"
"""Name of the receiver in Envoy's configuration."""
SCOPE = "envoy"
"""Instrumentation scope of Envoy's spans."""
UNTRUSTED = ("traceparent", "tracestate", "baggage", "x-client-trace-id", "x-envoy-force-trace")
"""Headers of clients that would continue a foreign trace, reach all services, or decide that a request is recorded."""
ATTRIBUTES = {
    "http.request.method": "%REQ(:METHOD)%",
    "http.route": "%ROUTE_NAME%",
    "http.response.status_code": "%RESPONSE_CODE%",
    "http.request.header.x-request-id": "%REQ(X-REQUEST-ID):128%",
    "response_flags": "%RESPONSE_FLAGS%",
}
"""What a span of the gateway says, by name: OpenTelemetry's conventions for HTTP, and Envoy's name for its flags.

Envoy adds names of its own, such as the address of the client. The OpenTelemetry gateway removes these."""
FLUSH_MS, FLUSH_SPANS, WAITING_SPANS = 1000, 100, 1000
"""A worker sends its spans after this time, or once it has this number. Beyond the last number, it drops new spans."""
SEND_S, CONNECT_S, SENDING = 2, 1, 8
"""Limits in seconds of a delivery and of a connection, and most deliveries at once. Others are dropped, not queued."""
_EARLY = "envoy.http.early_header_mutation.header_mutation"
_SAMPLER = "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based"


def manager(spans: Spans) -> Json:
    """Settings of a connection manager whose requests are traced."""
    provider = typed(
        "config.trace.v3.OpenTelemetryConfig",
        service_name="gateway",
        grpc_service={"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": f"{SEND_S}s"},
        max_cache_size=WAITING_SPANS,
        sampler={
            "name": _SAMPLER,
            "typed_config": typed(
                "extensions.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
                sampling_percentage={"numerator": round(1e6 * spans.ratio), "denominator": "MILLION"},
            ),
        },
    )
    request_id = typed(
        "extensions.request_id.uuid.v3.UuidRequestIdConfig",
        # Otherwise, Envoy writes its decision into the ID, also into one of the client, and decides by the ID. So its
        # percentages have no effect, and the tracer's own sampler decides.
        pack_trace_reason=False,
        use_request_id_for_trace_sampling=False,
    )
    removed = typed(
        "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove": name} for name in UNTRUSTED],
    )
    return {
        "request_id_extension": {"typed_config": request_id},
        # Applied before the trace begins, unlike the headers that routes remove.
        "early_header_mutation_extensions": [{"name": _EARLY, "typed_config": removed}],
        "tracing": {
            "client_sampling": {"value": 0},
            "operation": "%REQ(:METHOD)% %ROUTE_NAME%",
            # Envoy's own attribute with the URL, which would contain the query, is left with the host.
            "max_path_tag_length": 0,
            "custom_tags": [{"tag": name, "value": value} for name, value in ATTRIBUTES.items()],
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": provider},
        },
    }


def cluster(spans: Spans) -> Json:
    """The receiver. While it is away, deliveries fail at once or within `SEND_S`, and requests go on."""
    address = {"socket_address": {"address": spans.host, "port_value": spans.port}}
    return {
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": f"{CONNECT_S}s",
        "dns_lookup_family": "V4_ONLY",
        # The gateway starts before the receiver, whose name is unknown until then.
        "wait_for_warm_on_init": False,
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "circuit_breakers": {"thresholds": [{"max_pending_requests": SENDING, "max_requests": SENDING}]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {"connection_keepalive": {"interval": "10s", "timeout": "5s"}}
                },
            )
        },
    }


def runtime() -> Json:
    """Envoy's runtime settings of the tracer."""
    values = {
        "tracing.opentelemetry.flush_interval_ms": FLUSH_MS,
        "tracing.opentelemetry.min_flush_spans": FLUSH_SPANS,
    }
    return {"layers": [{"name": "spans", "static_layer": values}]}
