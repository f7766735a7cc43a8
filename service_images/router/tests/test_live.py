"""Route tables from a real NATS server: applied at run time, without interrupting valid routes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router.__main__ import create  # noqa: E402
from router.core import Core  # noqa: E402
from router.front import Front  # noqa: E402
from router.live import BUCKET, TABLE, LiveRoutes  # noqa: E402
from router.overrides import Overrides  # noqa: E402
from router.routes import RouteTable  # noqa: E402
from router.shared import SUBJECT, Message, SharedLimits, Used  # noqa: E402

from .conftest import serve  # noqa: E402

WITHIN_S = 1.0
Targets = Callable[[int], list[Any]]


class Server:
    """A NATS server with a writer of tables."""

    def __init__(self, nats_server: Any) -> None:
        self.url, self.start, self.kill = nats_server.url, nats_server.start, nats_server.kill

    def put(self, content: bytes) -> None:
        """Write a table."""

        async def write() -> None:
            connection = await nats.connect(self.url)
            stream = connection.jetstream()
            try:
                bucket = await stream.key_value(BUCKET)
            except nats.js.errors.BucketNotFoundError:
                bucket = await stream.create_key_value(bucket=BUCKET)
            await bucket.put(TABLE, content)
            await connection.close()

        asyncio.run(write())


@pytest.fixture
def server(nats_server: Any) -> Server:
    return Server(nats_server)


def table(url: str, *models: str, tenants: list[dict[str, Any]] | None = None) -> bytes:
    routes = [{"model": model, "upstream": url} for model in models]
    return json.dumps({"routes": routes, "tenants": tenants or []}).encode()


@pytest.fixture
def follow(targets: Targets, server: Server) -> Iterator[tuple[httpx.Client, str]]:
    """(Router that has the model "first" in its file and follows the server, URL of its target)."""
    (target,) = targets(1)
    core = Core(RouteTable.model_validate_json(table(target.url, "first")))
    overrides = Overrides(core.table, core.reload)
    running, thread, url = serve(
        create(core, LiveRoutes(server.url, core, overrides, overrides.rebase)), Front.of(core)
    )
    with httpx.Client(base_url=url, trust_env=False) as client:
        yield client, target.url
    running.should_exit = True
    thread.join()


def models(client: httpx.Client) -> set[str]:
    return {model["id"] for model in client.get("/v1/models").json()["data"]}


def becomes(client: httpx.Client, wanted: set[str], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if models(client) == wanted:
            return True
        time.sleep(0.01)
    return False


def test_a_table_that_is_there_is_taken_at_the_start(server: Server, follow: tuple[httpx.Client, str]) -> None:
    client, url = follow
    server.put(table(url, "first", "second"))
    assert becomes(client, {"first", "second"}, 5)


def test_a_new_table_is_in_force_within_a_second(server: Server, follow: tuple[httpx.Client, str]) -> None:
    client, url = follow
    server.put(table(url, "one"))
    assert becomes(client, {"one"}, 5)
    for number in range(3):
        server.put(table(url, f"m{number}"))
        assert becomes(client, {f"m{number}"}, WITHIN_S)


def test_a_revoked_key_is_refused_within_a_second(server: Server, follow: tuple[httpx.Client, str]) -> None:
    client, url = follow
    tenant = {"id": "t", "keys": [hashlib.sha256(b"cf-1").hexdigest()]}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    def status() -> int:
        return client.post("/v1/chat/completions", json=body, headers={"authorization": "Bearer cf-1"}).status_code

    server.put(table(url, "m", tenants=[tenant]))
    deadline = time.monotonic() + 5
    while status() != 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status() == 200
    server.put(table(url, "m", tenants=[{**tenant, "keys": []}]))
    deadline = time.monotonic() + WITHIN_S
    while status() == 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status() == 401


def test_a_table_that_is_wrong_changes_nothing(server: Server, follow: tuple[httpx.Client, str]) -> None:
    client, url = follow
    server.put(table(url, "good"))
    assert becomes(client, {"good"}, 5)
    server.put(b'{"routes": [{"model": "bad"}]}')
    server.put(b"\xff")
    assert not becomes(client, {"bad"}, WITHIN_S)
    assert models(client) == {"good"}
    server.put(table(url, "better"))
    assert becomes(client, {"better"}, WITHIN_S)


def test_the_router_works_during_a_nats_outage_and_catches_up(server: Server, follow: tuple[httpx.Client, str]) -> None:
    client, url = follow
    server.put(table(url, "before"))
    assert becomes(client, {"before"}, 5)
    server.kill()
    body = {"model": "before", "messages": [{"role": "user", "content": "x"}]}
    assert [client.post("/v1/chat/completions", json=body).status_code for _ in range(20)] == [200] * 20
    server.start()
    server.put(table(url, "after"))
    assert becomes(client, {"after"}, 10)


# --- limits across replicas --------------------------------------------------------------------------


@pytest.fixture
def replicas(targets: Targets, server: Server) -> Iterator[Callable[..., list[tuple[Core, httpx.Client]]]]:
    """Function that starts three Routers with one target, which share a tenant's limits."""
    (target,) = targets(1)
    made: list[Any] = []

    def make(**limits: Any) -> list[tuple[Core, httpx.Client]]:
        content = {
            "routes": [{"model": "m", "targets": [{"name": "t", "upstream": target.url, "output_price": 10_000}]}],
            "tenants": [{"id": "t", "clients": ["c"], **limits}],
        }
        for _ in range(3):
            core = Core(RouteTable.model_validate(content))
            running, thread, url = serve(create(core, SharedLimits(server.url, core)), Front.of(core))
            client = httpx.Client(base_url=url, trust_env=False, headers={"x-client-id": "c"}, timeout=10)
            made.append((running, thread, core, client))
        time.sleep(0.5)  # until all are connected and have received the others' messages
        return [(core, client) for _, _, core, client in made]

    yield make
    for running, thread, _, client in made:
        client.close()
        running.should_exit = True
        thread.join()


ASK: Any = {"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "x"}]}


def _until_refused(client: httpx.Client) -> None:
    """Send requests until the budget is used up; near the end, a replica may have to wait for the others' messages."""
    refused = 0
    while refused < 20:
        if client.post("/v1/chat/completions", json=ASK).status_code == 200:
            refused = 0
        else:
            refused += 1
            time.sleep(0.1)


def test_replicas_do_not_overspend_a_budget_together(
    replicas: Callable[..., list[tuple[Core, httpx.Client]]],
) -> None:
    made = replicas(budget_usd=30)  # an answer costs 0.03, so this is enough for a thousand
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(_until_refused, [client for _, client in made] * 2))
    spent = sum(core.accounts.all()[0].spent for core, _ in made)
    assert 30 * 0.99 <= spent <= 30 * 1.01


def test_replicas_share_a_rate(replicas: Callable[..., list[tuple[Core, httpx.Client]]]) -> None:
    made = replicas(requests_per_minute=300)
    started, answered = time.monotonic(), 0
    for number in range(600):
        status = made[number % 3][1].post("/v1/chat/completions", json=ASK).status_code
        answered += status == 200
    came_in = (time.monotonic() - started) * 300 / 60
    assert 295 <= answered <= 300 + came_in + 60, "usage that is not published yet may exceed the limit"


def test_reservations_of_a_lost_replica_are_released(
    replicas: Callable[..., list[tuple[Core, httpx.Client]]], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.shared.GONE_S", 0.3)
    made = replicas(budget_usd=1)
    account = made[0][0].accounts.all()[0]
    stranger = Message("lost", {"t": Used(spent=0.25, held=0.5, requests=0, tokens=0)})

    async def tell(url: str) -> None:
        connection = await nats.connect(url)
        await connection.publish(SUBJECT, msgspec.json.encode(stranger))
        await connection.flush()
        await connection.close()

    asyncio.run(tell(server.url))
    deadline = time.monotonic() + 3
    while account.spent_elsewhere != 0.25 and time.monotonic() < deadline:
        time.sleep(0.01)
    while account.held_elsewhere and time.monotonic() < deadline:
        time.sleep(0.01)
    assert account.held_elsewhere == 0
    assert account.spent_elsewhere == 0.25, "what it has spent stays spent"
