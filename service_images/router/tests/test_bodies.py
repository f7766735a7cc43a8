"""Request bodies: none of unauthenticated clients is stored, and all together fit into the reserved memory."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from kit import limits
from kit.errors import ApiError
from router import bodies

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from serving import served

from service_images.ports import free_port

from .conftest import SOURCES, until

Targets = Callable[[int], list[Any]]
Running = Callable[..., Any]
KEYS = {"alice": "a", "bob": "b"}
TENANTS = [{"id": name, "keys": [hashlib.sha256(key.encode()).hexdigest()]} for name, key in KEYS.items()]
MIB = 2**20
STRANGERS = 64
ALLOWED = 32 * MIB


def connect(router_url: str) -> socket.socket:
    host, port = router_url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def head(length: int, key: str = "", more: str = "") -> bytes:
    own = f"authorization: Bearer {key}\r\n" if key else ""
    return f"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n{own}{more}content-length: {length}\r\n\r\n".encode()


def question(size: int) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * size}]}).encode()


@pytest.fixture
def router(targets: Targets, running: Running) -> Any:
    return running(targets(1), tenants=TENANTS)


def test_an_unauthenticated_client_is_refused_by_the_head(router: Any) -> None:
    with connect(router.url) as connection:
        connection.sendall(head(15 * MIB))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")
        connection.sendall(b"x" * MIB)  # the client continues nevertheless
    assert router.core.bodies.held == 0


def test_an_unauthenticated_client_gets_no_100_continue(router: Any) -> None:
    with connect(router.url) as connection:
        connection.sendall(head(15 * MIB, more="expect: 100-continue\r\n"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")


def test_the_connection_of_a_refused_request_serves_the_next_one(router: Any) -> None:
    body = question(100_000)
    with connect(router.url) as connection:
        connection.sendall(head(len(body)) + body[:1000])
        assert connection.recv(4096).startswith(b"HTTP/1.1 401")
        connection.sendall(body[1000:] + head(len(body), "a") + body)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200")


def test_a_length_above_the_limit_is_refused_by_the_head(router: Any) -> None:
    with connect(router.url) as connection:
        connection.sendall(head(limits.INFERENCE_BODY.most + 1, "a"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    assert router.core.bodies.held == 0


def test_held_reservations_are_released(router: Any) -> None:
    for _ in range(5):
        assert router.ask("x" * (3 * MIB), headers={"authorization": "Bearer a"}).status_code == 200
    assert router.core.bodies.held == 0
    with connect(router.url) as connection:
        connection.sendall(head(4 * MIB, "a") + b"x" * MIB)
        until(lambda: router.core.bodies.held == 4 * MIB)
    until(lambda: router.core.bodies.held == 0)


def test_a_tenant_that_sends_much_leaves_room_for_others(router: Any) -> None:
    with ExitStack() as stack:
        answers = []
        for _ in range(8):
            connection = stack.enter_context(connect(router.url))
            connection.sendall(head(8 * MIB, "a") + b"x")
            answers.append(connection)
        until(lambda: router.core.bodies.held == limits.ROUTER_BODIES.most // 2)
        refused = answers[-1].recv(4096)
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"retry-after: " in refused
        answer = router.ask("x" * (8 * MIB), headers={"authorization": "Bearer b"})
        assert answer.status_code == 200


def test_a_body_that_does_not_come_is_given_up(router: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_S", 0.3)
    with connect(router.url) as connection:
        connection.sendall(head(MIB, "a") + b"x")
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
        assert connection.recv(4096) == b""
    until(lambda: router.core.bodies.held == 0)


def test_all_room_together_is_limited() -> None:
    room = bodies.Bodies(40 * MIB)
    for tenant in (b"a", b"b"):
        room.take(tenant, 16 * MIB)
    with pytest.raises(ApiError) as error:
        room.take(b"c", 16 * MIB)
    assert error.value.status == 503
    room.give(b"a", 16 * MIB)
    room.take(b"c", 16 * MIB)
    assert room.held == 32 * MIB


def test_unfinished_bodies_of_unauthenticated_clients_take_no_memory(tmp_path: Path) -> None:
    port = free_port()
    routes = tmp_path / "routes.json"
    route = {"model": "m", "upstream": "http://127.0.0.1:9"}
    routes.write_text(json.dumps({"routes": [route], "tenants": TENANTS}))
    path = os.pathsep.join(str(SOURCES / name / "src") for name in ("kit", "router"))
    own = {"PYTHONPATH": path, "SERVICE_ROUTES_FILE": str(routes), "SERVICE_HOST": "127.0.0.1"}
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "router"]
    with served(command, {**own, "SERVICE_PORT": str(port)}, f"{url}/healthz", 60) as pid, ExitStack() as stack:
        process = psutil.Process(pid)
        before = process.memory_info().rss
        for _ in range(STRANGERS):
            connection = stack.enter_context(connect(url))
            connection.sendall(head(15 * MIB))
            connection.sendall(b"x" * MIB)
            assert connection.recv(4096).startswith(b"HTTP/1.1 401")
        assert process.memory_info().rss - before < ALLOWED
