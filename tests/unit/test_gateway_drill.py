"""Drill of the OpenTelemetry gateway: the real collector between real services and the real Jaeger."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from cli import spans as spans_of
from components.config.traces import Traces
from components.observability import boards_traces, jaeger, trace_pipeline
from components.observability.telemetry_gateway import destinations
from components.observability.trace_pipeline import Destination
from components.services.registry import SERVICES
from local.toolchain import builder
from local.toolchain.tools import ToolName
from tests.known_metrics import FOREIGN, shown
from tests.span_servers import FOUND_S, JaegerServer
from tests.trace_servers import Gateway, Service
from tests.waiting import until

pytestmark = [pytest.mark.drill("traces"), pytest.mark.xdist_group("traces")]
Start = Callable[..., Gateway]
Serve = Callable[[str, Gateway], Service]
BLOCKED = {"cogniforge.guard.input": "block"}
DECIDED_S = 60
"""Seconds for all decisions. A decision takes `SETTLE_S`, and a loaded machine takes its time."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[JaegerServer]:
    (tmp_path / "jaeger").mkdir()
    made = JaegerServer(tmp_path / "jaeger")
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


@pytest.fixture
def start(tmp_path: Path, server: JaegerServer) -> Iterator[Start]:
    """Function that starts a gateway before Jaeger, and before further receivers."""
    made: list[Gateway] = []

    def begin(*more: Destination, **section: Any) -> Gateway:
        first = Destination("jaeger", f"http://127.0.0.1:{server.ports[jaeger.OTLP_PORT]}/v1/traces")
        made.append(Gateway(tmp_path / "gateway", [first, *more], section))
        made[-1].start()
        return made[-1]

    yield begin
    for one in made:
        one.kill()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Function that starts a service."""
    made: list[Service] = []

    def begin(name: str, gateway: Gateway) -> Service:
        made.append(Service(name, gateway.endpoint))
        return made[-1]

    yield begin
    for one in made:
        one.process.kill()
        one.process.wait(10)


def kept(server: JaegerServer, parent: str) -> int:
    return len(spans_of.read(server.trace(parent)))


def all_kept(server: JaegerServer, *services: str) -> dict[str, int]:
    """Number of spans of each trace that Jaeger has, by trace ID."""
    found: dict[str, int] = {}
    now = time.time_ns() // 1000
    for service in services:
        query = f"service={service}&limit=1000&start={now - 3_600_000_000}&end={now + 1_000_000}"
        answer = server.get(jaeger.QUERY_PORT, f"/api/traces?{query}")
        traces = answer.json()["data"] if answer.status_code == 200 else []
        found |= {one["traceID"]: len(one["spans"]) for one in traces or []}
    return found


@pytest.mark.parametrize("langfuse", [None, {"url": "https://langfuse.example.com/otel", "secretName": "langfuse"}])
def test_the_collector_accepts_the_configuration(tmp_path: Path, langfuse: dict[str, str] | None) -> None:
    section = Traces.model_validate({"langfuse": langfuse})
    place = trace_pipeline.Place(namespace="cogniforge")
    rules = trace_pipeline.slow_rules(SERVICES.values())
    text = json.dumps(trace_pipeline.configuration(section, rules, destinations(section), place))
    (tmp_path / "authorization").write_text("Basic bGFuZ2Z1c2U=")
    (tmp_path / "c.json").write_text(text.replace("/var/run/secrets/service", str(tmp_path)))
    command = [builder.resolve(ToolName.COLLECTOR), "validate", f"--config={tmp_path}/c.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_failed_blocked_and_slow_requests_are_kept_and_one_of_a_hundred_others(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    gateway = start()
    router, retriever = serve("router", gateway), serve("retriever", gateway)
    special = {
        "error": [router.answer(error="upstream")[0] for _ in range(7)],
        "marked": [router.answer(attributes=BLOCKED)[0] for _ in range(5)],
        "slow": [router.answer(attributes={"gen_ai.response.time_to_first_chunk": 2.5})[0] for _ in range(2)]
        + [retriever.answer(seconds=3)[0] for _ in range(2)],
    }
    ordinary = [router.answer(seconds=60)[0] for _ in range(300)]
    router.end()
    retriever.end()
    wanted = {"error": 7, "marked": 5, "slow": 4, "share": 3, "not_kept": 297}
    until(lambda: gateway.decided() == wanted, DECIDED_S, lambda: str(gateway.decided()))
    found: dict[str, int] = {}

    def all_arrived() -> bool:
        found.update(all_kept(server, "router", "retriever"))
        return sum(found.values()) == 2 * 19

    until(all_arrived, FOUND_S, lambda: f"{found} {gateway.log[-2000:]}")
    wanted_ids = {parent.split("-")[1] for several in special.values() for parent in several}
    assert wanted_ids <= found.keys()
    assert len(found.keys() & {parent.split("-")[1] for parent in ordinary}) == 3
    counted = lambda: sum(gateway.values("span_calls_total", span_kind="SPAN_KIND_SERVER"))  # noqa: E731
    until(lambda: counted() == 316, 30, lambda: gateway.metrics()[-4000:])
    assert sum(gateway.values("span_calls_total", status_code="STATUS_CODE_ERROR")) == 7
    assert sum(gateway.values("span_duration_seconds_count", span_kind="SPAN_KIND_SERVER")) == 316
    assert boards_traces.BOARD.metrics - FOREIGN <= shown(gateway.metrics())


def test_a_stream_is_judged_when_it_has_ended_and_found_in_time(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    gateway = start()
    router = serve("router", gateway)
    parent, _ = router.answer(streams=2 * trace_pipeline.SETTLE_S, error="the stream broke off")
    ended = time.monotonic()
    until(lambda: kept(server, parent) == 2, FOUND_S, lambda: gateway.log[-2000:])
    assert time.monotonic() - ended < FOUND_S
    until(lambda: gateway.decided() == {"error": 1}, 30, lambda: str(gateway.decided()))


def test_each_request_of_a_clients_trace_is_judged_by_itself(server: JaegerServer, start: Start, serve: Serve) -> None:
    """Clients choose trace IDs and may send a baggage. Neither decides what is kept."""
    gateway = start(keepOneOf=1_000_000)
    router = serve("router", gateway)
    headers = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "cogniforge.guard.input=block",
        "tracestate": "sampled=1",
    }
    first, _ = router.answer(headers=headers)
    until(lambda: gateway.decided() in ({"not_kept": 1}, {"share": 1}), DECIDED_S)
    second, _ = router.answer(headers=headers, error="upstream")
    assert first.split("-")[1] == second.split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    until(lambda: gateway.decided().get("error") == 1, DECIDED_S)
    until(lambda: kept(server, second) >= 2, FOUND_S)
    assert "block" not in json.dumps(server.trace(second))


def test_a_late_span_of_a_consumer_is_soon_forgotten_and_is_no_request(start: Start) -> None:
    gateway = start()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{gateway.endpoint}/v1/traces")))
    parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    around = set_span_in_context(NonRecordingSpan(parent))
    provider.get_tracer("test").start_span("process usage.recorded.v1", around, kind=SpanKind.CONSUMER).end()
    provider.shutdown()
    held = lambda: gateway.values("otelcol_request_sampling_held_spans")  # noqa: E731
    until(lambda: held() == [1.0], 30)
    until(lambda: held() == [0.0], DECIDED_S, lambda: gateway.metrics()[-2000:])
    assert gateway.decided() == {}


def test_spans_arrive_after_jaeger_was_away_and_the_gateway_was_killed(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    gateway = start()
    router = serve("router", gateway)
    server.kill()
    told = [router.answer(error="upstream", name=f"POST /unforgettable-{number}") for number in range(5)]
    assert max(seconds for _, seconds in told) < 1, "requests wait for Jaeger"
    names = [f"/unforgettable-{number}".encode() for number in range(5)]
    until(lambda: all(name in gateway.queue for name in names), DECIDED_S)
    gateway.kill()
    while_away, seconds = router.answer(error="upstream")
    assert seconds < 1, "requests wait for the gateway"
    server.start()
    gateway.start()
    for parent, _ in told:
        until(lambda parent=parent: kept(server, parent) == 2, DECIDED_S, lambda: gateway.log[-2000:])
    # The service sends spans again for a while.
    until(lambda: kept(server, while_away) == 2, DECIDED_S)


SECRETS = ("sk-abcdefghij0123456789", "ada@mail.example.com", "hunter2-and-more", "4111 1111 1111 1111", "the prompt")


def test_keys_and_personal_data_reach_neither_jaeger_nor_the_disk(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    gateway = start()
    router = serve("router", gateway)
    key, mail, password, card, prompt = SECRETS
    parent, _ = router.answer(
        name=f"POST /users/{mail}",
        error=f"no account of {mail} with {key}",
        event=f"asked by {mail}",
        event_attributes={"exception.message": f"password={password}", "text": card},
        attributes={
            "note": f"Bearer {key}",
            "db.password": password,
            "user.email": mail,
            "gen_ai.input.messages": prompt,
            "url.full": f"https://api.example.com/?api_key={password}&page=2",
        },
    )
    server.kill()
    until(lambda: b"[redacted]" in gateway.queue, DECIDED_S)
    assert [secret for secret in SECRETS if secret.encode() in gateway.queue] == []
    server.start()
    until(lambda: kept(server, parent) == 2, DECIDED_S)
    answer = json.dumps(server.trace(parent))
    assert [secret for secret in SECRETS if secret in answer or secret in gateway.log] == []
    assert "POST /users/[redacted]" in answer and "api_key=[redacted]&page=2" in answer


def test_invented_names_are_bounded_in_span_metrics_and_counted(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    gateway = start()
    router = serve("router", gateway)
    number = 2 * trace_pipeline.MOST_SERIES
    for place in range(number):
        router.answer(model=f"invented-{place}", name=f"GET /invented/{place}" if place % 2 else "POST /v1/embeddings")
    router.end()
    total = lambda: sum(gateway.values("span_calls_total", service_name="router"))  # noqa: E731
    until(lambda: total() == 2 * number, DECIDED_S, lambda: str(total()))
    assert len(gateway.values("span_calls_total", service_name="router")) == trace_pipeline.MOST_SERIES + 1
    (beyond,) = gateway.values("span_calls_total", service_name="router", otel_metric_overflow="true")
    assert beyond == number - (trace_pipeline.MOST_SERIES - 1)
    # The inner spans are named after the same models, and are one series.
    assert gateway.values("span_calls_total", span_name="chat", span_kind="SPAN_KIND_INTERNAL") == [float(number)]
    other = serve("retriever", gateway)
    other.answer()
    other.end()
    until(lambda: sum(gateway.values("span_calls_total", service_name="retriever")) == 2, 30)


class _Receiver(BaseHTTPRequestHandler):
    got: list[tuple[str, str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.path, self.headers["authorization"], body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_langfuse_receives_what_is_kept_with_its_login_and_may_be_away(
    server: JaegerServer, start: Start, serve: Serve
) -> None:
    handler = type("Receiver", (_Receiver,), {"got": []})
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    headers = {"Authorization": "Basic cGs6c2s="}
    url = f"http://127.0.0.1:{receiver.server_port}/api/public/otel/v1/traces"
    gateway = start(Destination("langfuse", url, headers))  # the socket listens, but nobody answers yet
    router = serve("router", gateway)
    parent, _ = router.answer(error="upstream")
    until(lambda: kept(server, parent) == 2, FOUND_S + trace_pipeline.SETTLE_S)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        until(lambda: bool(handler.got), DECIDED_S)
    finally:
        receiver.shutdown()
        receiver.server_close()
    path, authorization, body = handler.got[0]
    assert (path, authorization) == ("/api/public/otel/v1/traces", headers["Authorization"])
    assert body
