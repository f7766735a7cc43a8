"""A real Envoy with callers that send too much, too slowly or too often."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from components.config import parse as config_parse
from components.mesh import entrance, envoy, limits
from components.mesh.routes import Backend, GatewayIntent, Rates, Route
from tests.envoy_server import MEMORY_BYTES, Running, gateway
from tests.stack_files import stack_file
from tests.waiting import until

MIB = 2**20
LARGE = 16 * MIB
HEAD = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (15 * MIB)


class _Deaf:
    """A service that accepts connections and heads of requests, and then stops reading."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self._listener.getsockname()[1]
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):  # the listener is closed at the end
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.taken.append(connection)

    def close(self) -> None:
        self._listener.close()
        for connection in self.taken:
            connection.close()


def intent(port: int, rates: Rates | None = None) -> GatewayIntent:
    routes = (Route("/v1/", Backend("router", "127.0.0.1", port), 60, 30, LARGE),)
    return GatewayIntent(
        ("localhost",), 443, routes, rates or Rates((10_000, 10_000), (10_000, 10_000)), services_ask=True
    )


@pytest.fixture
def deaf() -> Iterator[_Deaf]:
    found = _Deaf()
    yield found
    found.close()


@pytest.fixture
def running(deaf: _Deaf, tmp_path: Path) -> Iterator[Running]:
    with gateway(intent(deaf.port), tmp_path) as found:
        yield found


def _resident(running: Running) -> int:
    return running.process.memory_info().rss


def _push(connections: list[socket.socket], size: int) -> None:
    """Send up to `size` bytes on each connection, until the gateway stops reading."""
    left = dict.fromkeys(connections, size)
    quiet_since = time.monotonic()
    piece = b"x" * 65536
    while left and time.monotonic() - quiet_since < 1:
        for connection in [*left]:
            try:
                left[connection] -= connection.send(piece[: left[connection]])
                quiet_since = time.monotonic()
            except BlockingIOError:
                continue
            except OSError:
                del left[connection]
                continue
            if left[connection] <= 0:
                del left[connection]


def _open(running: Running, count: int) -> list[socket.socket]:
    made: list[socket.socket] = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=20)
        with contextlib.suppress(OSError):
            connection.sendall(HEAD)
        connection.setblocking(False)
        made.append(connection)
    return made


def test_64_unfinished_bodies_without_a_key_cost_little_memory(running: Running) -> None:
    httpx.get(f"{running.url}/nothing", headers={"host": "localhost"}, trust_env=False)
    before = _resident(running)
    connections = _open(running, 64)
    _push(connections, 15 * MIB)
    assert _resident(running) - before <= 32 * MIB
    for connection in connections:
        connection.close()


def test_as_many_unfinished_bodies_as_are_taken_fit_the_pods_memory(running: Running) -> None:
    connections = _open(running, 2000)
    _push(connections, 256 * 1024)
    assert _resident(running) < MEMORY_BYTES
    status = f"http://127.0.0.1:{running.status_port}/ready"
    assert httpx.get(status, trust_env=False).status_code == 200, "Kubernetes would restart it"
    for connection in connections:
        connection.close()

    def answers() -> bool:
        try:
            answer = httpx.get(f"{running.url}/nothing", headers={"host": "localhost"}, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.status_code == 404

    until(answers, 30)


def test_a_body_that_does_not_arrive_ends_with_request_timeout(
    deaf: _Deaf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envoy, "BODY_TIMEOUT_S", 1)
    with gateway(intent(deaf.port), tmp_path) as found:
        answer = found.raw(HEAD + b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"


def _statuses(running: Running, count: int, **headers: str) -> list[int]:
    with httpx.Client(base_url=running.url, headers={"host": "localhost", **headers}, trust_env=False) as client:
        return [client.get("/nothing").status_code for _ in range(count)]


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_above_its_rate_does_not_delay_others(deaf: _Deaf, tmp_path: Path, header: str) -> None:
    with gateway(intent(deaf.port, Rates((1, 5), (1000, 1000))), tmp_path) as found:
        first = _statuses(found, 10, **{header: "Bearer one"})
        second = _statuses(found, 5, **{header: "Bearer two"})
    assert 429 in first
    assert 429 not in second


def test_an_address_that_shows_ever_new_keys_is_limited(deaf: _Deaf, tmp_path: Path) -> None:
    with gateway(intent(deaf.port, Rates((1, 5), (1, 20))), tmp_path) as found:
        statuses = [status for n in range(40) for status in _statuses(found, 1, authorization=f"Bearer {n}")]
    assert 429 not in statuses[:20]
    assert 429 in statuses[20:]


def test_a_body_may_be_as_large_as_its_path_takes(running: Running) -> None:
    request = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    assert running.raw(request % (LARGE + 1)).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_reaches_the_service_before_it_is_whole(deaf: _Deaf, tmp_path: Path) -> None:
    with gateway(intent(deaf.port), tmp_path) as found:
        head = b"POST /v1/files HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        with socket.create_connection(("127.0.0.1", found.port), timeout=20) as caller:
            caller.sendall(head)
            until(lambda: deaf.taken, 20)
            deaf.taken[0].settimeout(20)
            received = b""
            while b"hello" not in received:
                received += deaf.taken[0].recv(4096)
            # The service decides by the head, and answers before the body has arrived.
            deaf.taken[0].sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            assert caller.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_a_whole_configuration_is_small_enough_for_its_pod() -> None:
    rendered = envoy.render(dataclasses.replace(intent(1)), {}, MEMORY_BYTES)
    threshold = rendered["static_resources"]["clusters"][1]["circuit_breakers"]["thresholds"][0]
    assert threshold["max_requests"] * envoy.REQUEST_BYTES <= MEMORY_BYTES


def test_a_client_that_sends_too_much_at_once_reads_why_it_was_refused(running: Running) -> None:
    body = b"x" * (LARGE + MIB)
    answer = httpx.post(f"{running.url}/v1/files", content=body, headers={"host": "localhost"}, trust_env=False)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_the_gateway_takes_every_body_that_the_table_of_limits_has() -> None:
    found = entrance.intent(config_parse.parse(stack_file("local")))
    bodies = {route.prefix: route.max_body_bytes for route in found.routes}
    assert bodies["/v1/"] == bodies["/v1/files"] == limits.most("INFERENCE_BODY")
    for prefix in ("/v1/prompts", "/v1/moderations", "/v1/guard/"):
        assert bodies[prefix] == limits.most("GATEWAY_TEXT_BODY"), "the largest prompt has 3 MiB as JSON"
    assert bodies["/v1/tenants"] == limits.most("GATEWAY_SMALL_BODY")
