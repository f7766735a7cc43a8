"""Renders a gateway intent as Envoy's bootstrap configuration. Pure functions: no Pulumi, no cluster."""

from __future__ import annotations

from typing import Any

from components.mesh import envoy_authorizer, envoy_errors, envoy_routes, envoy_tracing
from components.mesh.envoy_base import BUFFER_BYTES, Json, http_filter, typed
from components.mesh.routes import OPERATORS_PREFIX, Backend, GatewayIntent, Rates

LISTEN_PORT = 8443
ADMIN_PORT = 9901
STATUS_PORT = 9902
OPERATORS_PORT = 8444
"""Second listener, which serves the operators' paths if they are not public."""
TLS_FOLDER = "/etc/gateway-tls"
REQUEST_BYTES = 3 * BUFFER_BYTES + 16 * 1024
"""Most bytes per request: buffers of both connections, the beginning of the body for a retry, and state."""
CONNECTION_BYTES = BUFFER_BYTES + 32 * 1024
"""Most bytes per idle client connection, TLS included."""
PROGRAM_BYTES = 80 * 2**20
"""Memory of Envoy outside its heap, code included. Measured with version 1.40: 68 MB resident before the first
connection, and up to 75 MB once all code has run."""
BODY_TIMEOUT_S = 120
"""Time limit for receiving a whole request: 16 MiB at 1.1 Mbit/s."""
_BUCKETS = 20_000
"""Most rate limit buckets, about 200 bytes each. Beyond that, the least recently used ones are dropped."""


def _api_key(keys: dict[str, str]) -> Json:
    """API key filter. Callers send the key as a bearer token, as OpenAI's clients do, or as x-api-key."""
    credentials = [{"client": client, "key": key} for client, key in sorted(keys.items())]
    return http_filter(
        "api_key_auth",
        "api_key_auth.v3.ApiKeyAuth",
        credentials=credentials,
        key_sources=[{"header": "authorization"}, {"header": "x-api-key"}],
        # The key is removed before the request goes to a service.
        forwarding={"header": "x-client-id", "hide_credentials": True},
    )


def _bucket(rate: int, burst: int) -> Json:
    # The bucket is filled ten times a second, which makes the rate smooth.
    per_fill = max(1, rate // 10)
    return {"max_tokens": burst, "tokens_per_fill": per_fill, "fill_interval": f"{per_fill / rate:.6f}s"}


def _rate_limit(rates: Rates) -> Json:
    """Rate limit with one bucket per address and one per key, so that no caller can use up others' rates."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    shows_key = [
        {"actions": [{"request_headers": {"header_name": name, "descriptor_key": "key"}}]}
        for name in ("authorization", "x-api-key")
    ]
    address = {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}}
    return http_filter(
        "local_ratelimit",
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="gateway",
        # Envoy requires a default bucket. It is never used, since every request has an address.
        token_bucket=_bucket(*rates.per_address),
        always_consume_default_token_bucket=False,
        rate_limits=[{"actions": [address]}, *shows_key],
        # A descriptor without a value matches all values; each value gets its own bucket.
        descriptors=[
            {"entries": [{"key": "masked_remote_address"}], "token_bucket": _bucket(*rates.per_address)},
            {"entries": [{"key": "key"}], "token_bucket": _bucket(*rates.per_key)},
        ],
        max_dynamic_descriptors=_BUCKETS,
        filter_enabled=always,
        filter_enforced=always,
        response_headers_to_add=[{"header": {"key": "retry-after", "value": "1"}}],
    )


def _cluster(backend: Backend, requests: int) -> Json:
    endpoint = {"address": {"socket_address": {"address": backend.host, "port_value": backend.port}}}
    return {
        "name": backend.name,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "dns_lookup_family": "V4_ONLY",
        "load_assignment": {
            "cluster_name": backend.name,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
        # A ClusterIP balances connections, not requests, so long-lived connections would stay on one pod.
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"max_requests_per_connection": 1000, "idle_timeout": "30s"},
            )
        },
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "circuit_breakers": {
            "thresholds": [{"max_connections": requests, "max_pending_requests": requests, "max_requests": requests}]
        },
    }


def _access_log(*, traced: bool) -> Json:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        # The log omits the query, which may contain keys and codes.
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "duration_ms": "%DURATION%",
        "client": "%REQ(X-CLIENT-ID)%",
        "traceparent": "%REQ(TRACEPARENT)%",
        # By this name, log lines of all parts are found.
        **({"trace_id": "%TRACE_ID%"} if traced else {}),
    }
    log_format = {"json_format": fields}
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": typed("extensions.access_loggers.stream.v3.StdoutAccessLog", log_format=log_format),
    }


def _operators(intent: GatewayIntent) -> Json:
    """Filter that refuses the operators' paths to all addresses outside the configured networks."""
    networks = [
        {"remote_ip": {"address_prefix": address, "prefix_len": int(length)}}
        for address, _, length in (network.partition("/") for network in intent.operators.addresses)
    ]
    elsewhere = {"not_id": {"or_ids": {"ids": networks}}}
    matches = [{"prefix": OPERATORS_PREFIX}, *({"exact": one.path} for one in intent.documents if one.operators)]
    paths = [{"url_path": {"path": match}} for match in matches]
    policies = {"operators": {"permissions": paths, "principals": [elsewhere]}}
    return http_filter("rbac", "rbac.v3.RBAC", rules={"action": "DENY", "policies": policies})


def _connection_manager(intent: GatewayIntent, keys: dict[str, str], inside: bool) -> Json:
    guarded = not inside and not intent.operators.public
    closed = guarded and not intent.operators.addresses
    filters = [
        *([http_filter("cors", "cors.v3.Cors")] if intent.cors else []),
        _rate_limit(intent.rates),
        *([_operators(intent)] if guarded and intent.operators.addresses else []),
        *([] if intent.services_ask else [_api_key(keys)]),
        *(envoy_authorizer.filters(intent.authorizer) if intent.authorizer else []),
        http_filter("router", "router.v3.Router", suppress_envoy_headers=True),
    ]
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": typed(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="gateway",
            codec_type="AUTO",
            generate_request_id=True,
            preserve_external_request_id=True,
            always_set_request_id_in_response=True,
            use_remote_address=True,
            normalize_path=True,
            merge_slashes=True,
            # Routes decide about encoded slashes: some accept names that contain one, others refuse.
            path_with_escaped_slashes_action="KEEP_UNCHANGED",
            stream_idle_timeout=f"{max(r.idle_timeout_seconds for r in intent.routes)}s",
            request_headers_timeout="10s",
            # Limit for a connection without a request.
            common_http_protocol_options={"idle_timeout": "60s", "max_requests_per_connection": 10_000},
            request_timeout=f"{BODY_TIMEOUT_S}s",
            http2_protocol_options={
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 64 * 1024,
                "initial_connection_window_size": 1024 * 1024,
            },
            server_header_transformation="PASS_THROUGH",
            access_log=[_access_log(traced=intent.spans is not None)],
            local_reply_config=envoy_errors.local_replies(asks=intent.authorizer is not None),
            http_filters=filters,
            route_config={"name": "platform", "virtual_hosts": [envoy_routes.virtual_host(intent, closed)]},
            **(envoy_tracing.manager(intent.spans) if intent.spans else {}),
        ),
    }


def _listener(intent: GatewayIntent, keys: dict[str, str], name: str, port: int, inside: bool) -> Json:
    certificate = {
        "certificate_chain": {"filename": f"{TLS_FOLDER}/tls.crt"},
        "private_key": {"filename": f"{TLS_FOLDER}/tls.key"},
    }
    tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [certificate],
        },
    )
    return {
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "10s",
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [_connection_manager(intent, keys, inside)],
            }
        ],
    }


def _status_listener() -> Json:
    """Listener with readiness and metrics for the cluster. The admin port, which shows keys, stays on loopback."""
    paths = ("/ready", "/stats/prometheus")
    routes = [{"match": {"path": path}, "route": {"cluster": "admin"}} for path in paths]
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="status",
        http_filters=[http_filter("router", "router.v3.Router")],
        route_config={
            "name": "status",
            "virtual_hosts": [{"name": "status", "domains": ["*"], "routes": routes}],
        },
    )
    connection_manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": "status",
        # The connection limit does not apply here: a busy gateway must not fail its probes.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": STATUS_PORT}},
        "filter_chains": [{"filters": [connection_manager]}],
    }


def _action(name: str, **trigger: Any) -> Json:
    return {
        "name": f"envoy.overload_actions.{name}",
        "triggers": [{"name": "envoy.resource_monitors.fixed_heap", **trigger}],
    }


def _overload(heap_bytes: int, connections: int) -> Json:
    """Overload manager. As the heap fills, Envoy frees idle memory, closes idle connections, then refuses new work."""
    heap = typed("extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=heap_bytes)
    limit = typed(
        "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=connections,
    )
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {"name": "envoy.resource_monitors.fixed_heap", "typed_config": heap},
            {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": limit},
        ],
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 16},
        "actions": [
            _action("shrink_heap", threshold={"value": 0.8}),
            _action("disable_http_keepalive", threshold={"value": 0.85}),
            _action("reset_high_memory_stream", scaled={"scaling_threshold": 0.88, "saturation_threshold": 0.95}),
            _action("stop_accepting_requests", threshold={"value": 0.92}),
            _action("stop_accepting_connections", threshold={"value": 0.96}),
        ],
    }


def render(intent: GatewayIntent, keys: dict[str, str], memory_bytes: int) -> Json:
    """Envoy's bootstrap. `keys`: API key by client name, which makes the result a secret.

    `memory_bytes`: the pod's memory limit. The limits on concurrent requests and connections are derived from it.
    """
    heap = max(memory_bytes - PROGRAM_BYTES, memory_bytes // 4)
    requests, connections = heap // 2 // REQUEST_BYTES, heap // 2 // CONNECTION_BYTES
    backends = {route.backend.name: route.backend for route in intent.routes}
    admin = Backend("admin", "127.0.0.1", ADMIN_PORT)
    return {
        "node": {"id": "gateway", "cluster": "cogniforge"},
        "admin": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}},
            "ignore_global_conn_limit": True,
        },
        "static_resources": {
            "listeners": [
                _listener(intent, keys, "https", LISTEN_PORT, inside=False),
                _status_listener(),
                *(
                    []
                    if intent.operators.public
                    else [_listener(intent, keys, "operators", OPERATORS_PORT, inside=True)]
                ),
            ],
            "clusters": [
                *(_cluster(b, requests) for b in (*(b for _, b in sorted(backends.items())), admin)),
                *([envoy_authorizer.cluster(intent.authorizer)] if intent.authorizer else []),
                *([envoy_tracing.cluster(intent.spans)] if intent.spans else []),
            ],
        },
        "overload_manager": _overload(heap, connections),
        **({"layered_runtime": envoy_tracing.runtime()} if intent.spans else {}),
    }
