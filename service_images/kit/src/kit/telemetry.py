"""Metrics in Prometheus' base units and traces over OTLP."""

from __future__ import annotations

import random
from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from kit.settings import ServiceSettings

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUESTS = Counter("http_server_requests_total", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
IN_FLIGHT = Gauge("http_server_requests_in_flight", "Requests being answered now.", registry=REGISTRY)
DURATION = Histogram(
    "http_server_request_duration_seconds",
    "Time from the request's first byte to the answer's last.",
    ["method", "route"],
    # Cached answers take a millisecond, streams a minute.
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, 30, 60, 120),
    registry=REGISTRY,
)


_OUTSIDE: dict[str, float | None] = {"ratio": 1.0}
"""Share of REST clients' traces that are recorded, set once by `configure_tracing`; None: the gateway decides."""


ENTRANCE = "cogniforge.entrance"
"""Attribute of the first span of a client's request, which may have a parent outside. Sampling waits for its end."""
_SENT_MS = 2000
"""Milliseconds between two deliveries of ended spans."""

_PROPAGATED = TraceContextTextMapPropagator()
"""Trace context of calls between services: no baggage, which OpenTelemetry would pass on by default."""


def configure_tracing(settings: ServiceSettings) -> TracerProvider:
    """Configure the process's tracer. Spans are always created, so that logs have IDs. An endpoint receives them."""
    resource = Resource.create({"service.name": settings.name, "service.version": settings.version})
    _OUTSIDE["ratio"] = None if settings.gateway_traces else settings.trace_sample_ratio
    sampler = ParentBased(TraceIdRatioBased(settings.trace_sample_ratio))
    provider = TracerProvider(resource=resource, sampler=sampler)
    if settings.otlp_endpoint:
        # A late import: it needs two megabytes, which a service without a collector saves.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SENT_MS))
    trace.set_tracer_provider(provider)
    propagate.set_global_textmap(_PROPAGATED)
    return provider


def from_outside(headers: Mapping[str, str]) -> Context:
    """Trace context of a REST client. Its IDs are kept, so that clients find their requests in the logs.

    The client's sampled flag and trace ID do not decide about recording. Otherwise, a client could have all of its
    requests recorded, or none. Its `baggage` and `tracestate` are ignored: they would reach all services. Where the
    gateway begins traces, it has removed all of these, and the flag is its decision.
    """
    found = _PROPAGATED.extract({"traceparent": headers.get("traceparent", "")})
    parent, ratio = trace.get_current_span(found).get_span_context(), _OUTSIDE["ratio"]
    if not parent.is_valid or ratio is None:
        return found
    flags = TraceFlags(TraceFlags.SAMPLED if random.random() < ratio else TraceFlags.DEFAULT)
    own = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(own), found)


def traceparent() -> str:
    """Traceparent of the current request; empty outside of requests."""
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else ""


async def metrics(_: Request) -> Response:
    """`/metrics`."""
    return Response(generate_latest(REGISTRY), media_type="text/plain; version=0.0.4; charset=utf-8")
