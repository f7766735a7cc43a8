"""Telemetry of the fast path: metrics, one log line per request, and spans if traces are enabled."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from kit import genai, telemetry
from kit.errors import CLIENT_GONE
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

from router.model_call import ModelCall
from router.tally import Count, Spread

if TYPE_CHECKING:
    from router.request import Request
    from router.targets import TargetState

FLUSH_S = 0.02
"""Seconds between two writes of collected log lines: a compromise between cost and the number of waiting lines."""


class Measures:
    """Counts, logs and traces requests."""

    def __init__(
        self, *, tracing: bool = False, logging: bool = True, ratio: float = 1.0, gateway: bool = False
    ) -> None:
        """`ratio`: share of clients' requests that are recorded; `gateway`: the gateway has decided about these."""
        self._tracer = trace.get_tracer("router", schema_url=genai.REVISION) if tracing else None
        self._ratio, self._gateway = ratio, gateway
        self._logging = logging
        self._lines: list[bytes] = []
        self._second, self._stamp = 0, b""
        self.requests = Count("router_requests", "Requests for models by answer.", ("route", "model", "status"))
        self.upstream = Count("router_upstream_requests", "Attempts by outcome.", ("model", "target", "outcome"))
        self.tokens = Count("gen_ai_client_token_usage", "Tokens by kind.", ("gen_ai_request_model", "token_type"))
        self.estimated = Count(
            "router_usage_estimated",
            "Requests whose tokens the Router has counted, because the upstream reported none or was interrupted.",
            ("model", "target", "cause"),
        )
        self.cache = Count("router_cache_requests", "Look-ups of the response cache.", ("result",))
        self.duration = Spread(
            "gen_ai_server_request_duration_seconds",
            "From the last byte of the request to the last byte of the answer.",
            ("gen_ai_operation_name", "gen_ai_request_model"),
        )
        self.streams = Count("router_streams", "Streams by end: complete, cut, left by the client.", ("model", "end"))
        self.first_token = Spread(
            "gen_ai_server_time_to_first_token_seconds",
            "From the last byte of the request to the first piece of a stream.",
            ("gen_ai_request_model",),
        )

    def register(self, registry: CollectorRegistry = telemetry.REGISTRY) -> list[Collector]:
        """Export the metrics at /metrics. Call this once per process."""
        metrics: list[Collector] = [
            self.requests,
            self.upstream,
            self.tokens,
            self.estimated,
            self.cache,
            self.duration,
            self.first_token,
            self.streams,
        ]
        for metric in metrics:
            registry.register(metric)
        return metrics

    def begin(self, exchange: Request, traceparent: bytes) -> None:
        """Assign the request to a trace: the caller's, or a new one."""
        parent = _parse(traceparent) if traceparent else None
        if self._tracer is not None and self._samples(exchange, parent):
            context = None
            if parent is not None:
                remote = SpanContext(parent[0], parent[1], is_remote=True, trace_flags=TraceFlags(1))
                context = trace.set_span_in_context(NonRecordingSpan(remote))
            span = self._tracer.start_span(f"POST {exchange.path_text}", context=context, kind=SpanKind.SERVER)
            if not exchange.inside:
                span.set_attribute(telemetry.ENTRANCE, True)
            own = span.get_span_context()
            exchange.span = span
            exchange.trace_id = b"%032x" % own.trace_id
            exchange.traceparent = b"00-%s-%016x-%02x" % (exchange.trace_id, own.span_id, own.trace_flags)
            return
        if parent is None:
            digits = b"%048x" % random.getrandbits(192)
            exchange.trace_id = trace_id = digits[:32]
            exchange.traceparent = b"00-%s-%s-00" % (trace_id, digits[32:])
        else:
            exchange.trace_id = trace_id = b"%032x" % parent[0]
            sampled = parent[2] & 1 if exchange.inside or self._gateway else 0
            exchange.traceparent = b"00-%s-%016x-%02x" % (trace_id, random.getrandbits(64), sampled)

    def _samples(self, exchange: Request, parent: tuple[int, int, int] | None) -> bool:
        """Whether to trace a request. Services and a gateway that begins traces decide by the flag; clients do not."""
        if (exchange.inside or self._gateway) and parent is not None:
            return bool(parent[2] & 1)
        return self._ratio >= 1 or random.random() < self._ratio

    def call(self, exchange: Request, state: TargetState, model: str) -> ModelCall:
        """Begin the span of an attempt of a recorded request. `model`: model of the attempt's route."""
        assert self._tracer is not None, "the request is recorded"
        return ModelCall(self._tracer, exchange.span, exchange.operation, exchange.attempts, state, model)

    def first_piece(self, exchange: Request, seconds: float) -> None:
        """Record the first piece of a stream, `seconds` after the last byte of the request."""
        self.first_token.observe((exchange.model,), seconds)
        if exchange.span is not None:
            exchange.span.add_event(genai.FIRST_TOKEN)

    def end(self, exchange: Request, status: int, seconds: float) -> None:
        """Record an answered request."""
        path, model = exchange.path_text, exchange.model
        self.requests.values[path, model, str(status)] += 1
        self.duration.observe((exchange.operation, model), seconds)
        if exchange.streaming:
            end = "left" if status == CLIENT_GONE else "cut" if status >= 500 else "complete"
            self.streams.values[model, end] += 1
        used = exchange.used
        if used is not None:
            self.tokens.values[model, "input"] += used[0]
            self.tokens.values[model, "output"] += used[1]
        if exchange.span is not None:
            self._end_span(exchange, status)
        if self._logging:
            self._log(exchange, status, seconds)

    @staticmethod
    def _end_span(exchange: Request, status: int) -> None:
        span: Any = exchange.span
        span.set_attribute("http.request.method", "POST")
        span.set_attribute("http.route", exchange.path_text)
        span.set_attribute("http.response.status_code", status)
        span.set_attributes(genai.named(exchange.operation, exchange.model))
        if exchange.prompt_version:
            span.set_attribute(genai.PROMPT_NAME, exchange.prompt_version)
        for direction, verdict in (exchange.verdicts or {}).items():
            span.set_attribute(genai.GUARDED[direction], verdict)
        if exchange.used is not None:
            genai.used(span, *exchange.used)
        if exchange.first_token_s is not None:
            span.set_attribute(genai.RESPONSE_TIME_TO_FIRST_CHUNK, exchange.first_token_s)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _log(self, exchange: Request, status: int, seconds: float) -> None:
        """Log the fields of every service's request line; none of the values can contain a quote."""
        if not self._lines:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        self._lines.append(
            b'{"request_id": "%s", "method": "POST", "route": "%s", "status": %d, "duration_s": %.4f, "attempts": %d, '
            b'"tenant": "%s", "level": "info", "timestamp": "%s.%06dZ", "trace_id": "%s", "message": "request"}\n'
            % (
                exchange.request_id,
                exchange.path,
                status,
                seconds,
                exchange.attempts,
                exchange.tenant,
                self._stamp,
                (now - second) * 1e6,
                exchange.trace_id,
            )
        )

    def flush(self) -> None:
        """Write the collected lines."""
        lines, self._lines = self._lines, []
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()


def _parse(traceparent: bytes) -> tuple[int, int, int] | None:
    """(trace ID, span ID, flags) of a W3C traceparent; None if it is invalid."""
    if len(traceparent) < 55 or traceparent[2:3] != b"-" or traceparent[35:36] != b"-" or traceparent[52:53] != b"-":
        return None
    try:
        found = int(traceparent[3:35], 16), int(traceparent[36:52], 16), int(traceparent[53:55], 16)
    except ValueError:
        return None
    return found if found[0] and found[1] and traceparent[:2] != b"ff" else None
