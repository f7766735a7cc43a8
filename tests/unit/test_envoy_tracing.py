"""A real Envoy that traces requests: what its spans say, whom it believes, and that nobody waits for their receiver."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import socket
import statistics
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.mesh import envoy, envoy_tracing
from components.mesh.routes import Spans
from service_images.ports import free_port
from service_images.serving import answering
from tests.envoy_server import MEMORY_BYTES, Running, gateway
from tests.span_receiver import Receiver, receiving
from tests.unit.test_envoy_serving import intent
from tests.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
FORGED = {
    "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
    "tracestate": "vendor=forged",
    "baggage": "tenant=rival",
    "x-client-trace-id": "forged",
    "x-envoy-force-trace": "true",
}
ARRIVES_S = 20
ERROR = 2
"""Status code of a failed span, in OTLP."""


class _Service(BaseHTTPRequestHandler):
    """Reports the headers that it receives, with the status that the header `wanted` names."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        data = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(int(self.headers.get("wanted", 200)))
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: Any) -> None:
        return None


@pytest.fixture(scope="module")
def backend() -> Iterator[int]:
    with answering(_Service) as port:
        yield port


@contextlib.contextmanager
def tracing(backend: int, folder: Path, port: int | None, ratio: float = 1.0) -> Iterator[Running]:
    """A gateway that sends its spans to the port on loopback; None: it records none."""
    folder.mkdir(exist_ok=True)
    spans = None if port is None else Spans("127.0.0.1", port, ratio)
    with gateway(dataclasses.replace(intent(backend), spans=spans), folder) as found:
        yield found


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(scope="module")
def running(backend: int, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with tracing(backend, tmp_path_factory.mktemp("traced"), receiver.port) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers={"host": "localhost"}, trust_env=False, timeout=30) as made:
        _CLIENT.append(made)
        yield made
        _CLIENT.clear()


_CLIENT: list[httpx.Client] = []
"""The module's client, since each new one takes longer than a request."""


def ask(running: Running, path: str, request_id: str, **headers: str) -> httpx.Response:
    return _CLIENT[0].get(f"{running.url}{path}", headers={"x-request-id": request_id, **headers})


def arrived(receiver: Receiver, request_id: str) -> dict[str, str]:
    until(lambda: receiver.attributes(request_id), ARRIVES_S)
    return receiver.attributes(request_id)


def test_a_span_has_method_route_status_flags_and_request_id(running: Running, receiver: Receiver) -> None:
    assert ask(running, "/v1/files/private-name", "spans-1").status_code == 200
    assert ask(running, "/nothing", "spans-2").status_code == 404
    found = arrived(receiver, "spans-1")
    assert {name: found[name] for name in envoy_tracing.ATTRIBUTES} == {
        "http.request.method": "GET",
        "http.route": "/v1/files",
        "http.response.status_code": "200",
        "http.request.header.x-request-id": "spans-1",
        "response_flags": "-",
    }
    assert receiver.span("spans-1").name == "GET /v1/files"
    assert arrived(receiver, "spans-2")["response_flags"] == "NR"


def test_spans_contain_neither_queries_nor_credentials_nor_names_in_paths(running: Running, receiver: Receiver) -> None:
    headers = {"authorization": "Bearer SECRET-1", "x-api-key": "SECRET-2", "cookie": "session=SECRET-3"}
    ask(running, "/v1/files/SECRET-4?api_key=SECRET-5&page=2", "spans-3", **headers)
    arrived(receiver, "spans-3")
    assert b"SECRET" not in receiver.span("spans-3").SerializeToString()


def test_a_failed_request_is_a_failed_span(running: Running, receiver: Receiver) -> None:
    assert ask(running, "/v1/models", "spans-4", wanted="503").status_code == 503
    assert ask(running, "/v1/models", "spans-5", wanted="404").status_code == 404
    assert arrived(receiver, "spans-4")["http.response.status_code"] == "503"
    arrived(receiver, "spans-5")
    assert receiver.span("spans-4").status.code == ERROR
    assert receiver.span("spans-5").status.code != ERROR


def test_the_gateway_begins_the_trace_whatever_the_client_sends(running: Running, receiver: Receiver) -> None:
    seen = ask(running, "/v1/models", "spans-6", **FORGED).json()
    arrived(receiver, "spans-6")
    span = receiver.span("spans-6")
    assert seen["traceparent"] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}-01"
    assert span.trace_id.hex() != TRACE and not span.parent_span_id
    assert not seen.get("tracestate") and not {"baggage", "x-client-trace-id", "x-envoy-force-trace"} & seen.keys()


def test_the_log_line_of_a_request_has_the_same_trace(running: Running) -> None:
    seen = ask(running, "/v1/models", "spans-7", **FORGED).json()
    until(lambda: '"request_id":"spans-7"' in running.log.read_text(), ARRIVES_S)
    (line,) = [line for line in running.log.read_text().splitlines() if '"spans-7"' in line]
    assert json.loads(line)["trace_id"] == seen["traceparent"].split("-")[1]


@pytest.mark.parametrize("given", ["", "mine", "b4a6cf9c-1b3e-4e6b-9a4e-1f1a2b3c4d5e"])
def test_the_request_id_is_what_it_is_without_spans(running: Running, client: httpx.Client, given: str) -> None:
    headers = {"x-request-id": given} if given else {}
    answer = client.get(f"{running.url}/v1/models", headers=headers)
    seen = answer.json()["x-request-id"]
    assert answer.headers.get_list("x-request-id") == [seen]
    assert seen == given or re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", seen)


def test_the_configured_share_is_recorded_and_services_receive_the_decision(
    backend: int, receiver: Receiver, tmp_path: Path
) -> None:
    with tracing(backend, tmp_path, receiver.port, 0.0) as none:
        flags = {ask(none, "/v1/models", f"never-{place}", **FORGED).json()["traceparent"][-2:] for place in range(20)}
    assert flags == {"00"}
    with tracing(backend, tmp_path, receiver.port, 0.5) as half:
        seen = [ask(half, "/v1/models", f"half-{place}").json()["traceparent"][-2:] for place in range(100)]
        wanted = {f"half-{place}" for place, flag in enumerate(seen) if flag == "01"}
        until(lambda: all(receiver.attributes(name) for name in wanted), ARRIVES_S)
    assert 20 < len(wanted) < 80
    assert not [place for place in range(20) if receiver.attributes(f"never-{place}")]
    assert not [place for place, flag in enumerate(seen) if flag == "00" and receiver.attributes(f"half-{place}")]


def test_without_a_receiver_nothing_is_rendered_for_spans() -> None:
    text = json.dumps(envoy.render(intent(1), {}, MEMORY_BYTES))
    assert not re.search("opentelemetry|early_header_mutation|request_id_extension|trace_id", text)
    with_spans = json.dumps(envoy.render(dataclasses.replace(intent(1), spans=Spans("s", 4317)), {}, MEMORY_BYTES))
    assert with_spans.count('"client_sampling": {"value": 0}') == 1


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """A port that accepts connections, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


REQUESTS = 300


@pytest.mark.drill("traces")
def test_no_request_waits_for_a_receiver_that_is_away_silent_or_slow(
    backend: int, receiver: Receiver, tmp_path: Path
) -> None:
    """Requests in turn to a gateway without spans, and to three whose spans nobody takes."""
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(receiving())
        slow.answers.clear()
        ports = {"none": None, "away": free_port(), "silent": stack.enter_context(silent()), "slow": slow.port}
        made = {name: stack.enter_context(tracing(backend, tmp_path / name, port)) for name, port in ports.items()}
        clients = {
            name: stack.enter_context(httpx.Client(base_url=one.url, headers={"host": "localhost"}, trust_env=False))
            for name, one in made.items()
        }
        took: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(REQUESTS):
            for name, client in clients.items():
                began = time.perf_counter()
                assert client.get("/v1/models").status_code == 200
                took[name].append(time.perf_counter() - began)
        usual = statistics.median(took["none"])
        shown = {name: f"{1000 * statistics.median(times):.2f} ms" for name, times in took.items()}
        for name in ("away", "silent", "slow"):
            # A request that waited for its span would take CONNECT_S or longer.
            assert statistics.median(took[name]) < usual + envoy_tracing.CONNECT_S / 10, shown
            # A worker sends spans every second, so many requests would wait. A busy machine delays a few.
            waited = [seconds for seconds in took[name] if seconds >= envoy_tracing.CONNECT_S]
            assert len(waited) <= REQUESTS // 100, (name, waited)
            others = [line for line in made[name].log.read_text().splitlines() if '"request_id"' not in line]
            assert len(others) < REQUESTS // 10, others[-5:]
