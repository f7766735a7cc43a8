"""Tenants, keys and budgets that User and Billing publish, with a real NATS server."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest
from cogniforge.user.v1 import user_pb2_grpc as service
from kit import rpc
from kit.errors import ApiError
from kit.settings import ServiceSettings
from router.__main__ import create
from router.confirming import Confirming
from router.core import Core
from router.front import Front
from router.routes import RouteTable
from router.tenancy import digest_of
from router.tenants import Tenants

from service_images.issuer import NAMESPACE

from .conftest import serve, until

WITHIN_S = 1.0
KEY = "cf-a-key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


class Governed:
    """A Router that follows NATS, with a writer."""

    def __init__(self, server: Any, upstream: str) -> None:
        server.make_buckets("tenants", "budgets")
        self._server = server
        target = {"upstream": upstream, "output_price": 1_000_000}
        operator = {"id": "default", "keys": [hashlib.sha256(b"cf-operator").hexdigest()]}
        table = {"routes": [{"model": "m", "targets": [target]}], "tenants": [operator]}
        self.core = Core(RouteTable.model_validate(table))
        self.tenants = Tenants(server.url, self.core, {})
        followers = [self.tenants]
        self._running, self._thread, url = serve(create(self.core, *followers), Front.of(self.core))
        self.client = httpx.Client(base_url=url, trust_env=False)

    def write(self, bucket: str, *key: str, **value: Any) -> None:
        """Write an entry, or delete it without a value."""
        self._server.put(bucket, {key: value or None})

    def status(self, key: str = KEY) -> int:
        """Status of a request."""
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        headers = {"authorization": f"Bearer {key}"}
        return self.client.post("/v1/chat/completions", json=body, headers=headers).status_code

    def becomes(self, status: int, within_s: float = WITHIN_S) -> bool:
        """Whether requests get this status within the time limit."""
        deadline = time.monotonic() + within_s
        while (found := self.status()) != status and time.monotonic() < deadline:
            time.sleep(0.01)
        return found == status

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self._running.should_exit = True
        self._thread.join()


@pytest.fixture
def governed(targets: Callable[[int], list[Any]], nats_server: Any) -> Iterator[Governed]:
    (target,) = targets(1)
    made = Governed(nats_server, target.url)
    made.write("tenants", "t", "acme", id="acme")
    made.write("tenants", "k", DIGEST, tenant="acme", id="1", scopes=["inference"])
    assert made.becomes(200, 10)
    yield made
    made.stop()


def test_a_revoked_key_is_refused_within_a_second(governed: Governed) -> None:
    governed.write("tenants", "k", DIGEST)
    assert governed.becomes(401)


def test_a_key_that_lacks_the_scope_is_refused(governed: Governed) -> None:
    governed.write("tenants", "k", DIGEST, tenant="acme", id="1", scopes=["prompts"])
    assert governed.becomes(401)


def test_a_key_ends_when_it_expires(governed: Governed) -> None:
    governed.write("tenants", "k", DIGEST, tenant="acme", id="1", scopes=["inference"], expires=time.time() + 0.5)
    assert governed.becomes(401, 2)


def test_a_tenant_that_is_gone_has_no_keys(governed: Governed) -> None:
    governed.write("tenants", "t", "acme")
    assert governed.becomes(401)


def test_a_tenants_limits_hold_within_a_second(governed: Governed) -> None:
    governed.write("tenants", "t", "acme", id="acme", requests_per_minute=1)
    assert governed.becomes(429)


def test_a_budget_that_is_used_up_holds_within_a_second(governed: Governed) -> None:
    governed.write("budgets", "acme", budget_usd=1.0, spent_usd=2.0, period="2026-11")
    assert governed.becomes(429)
    governed.write("budgets", "acme", budget_usd=1000.0, spent_usd=2.0, period="2026-11")
    assert governed.becomes(200)


def test_usage_unknown_to_billing_counts(governed: Governed) -> None:
    """The Router counts three US dollars per answer at once, while Billing always reports zero."""
    governed.write("budgets", "acme", budget_usd=2000.0, spent_usd=0.0, period="2026-11")
    deadline = time.monotonic() + WITHIN_S
    while governed.core.accounts.of(digest_of(KEY.encode()), b"").budget != 2000.0 and time.monotonic() < deadline:  # type: ignore[union-attr]
        time.sleep(0.01)
    account = governed.core.accounts.of(digest_of(KEY.encode()), b"")
    assert account is not None
    account.spent += 1999.0
    governed.write("budgets", "acme", budget_usd=2000.0, spent_usd=0.0, period="2026-11")
    assert governed.status() == 429


def test_a_key_of_the_table_works_without_anything_from_nats(governed: Governed, nats_server: Any) -> None:
    nats_server.kill()
    assert governed.status("cf-operator") == 200
    assert governed.status() == 200, "what was published before still holds"
    nats_server.start()


class User(service.UserServiceServicer):
    """User's gRPC: it accepts some keys, and refuses all requests with them."""

    def __init__(self) -> None:
        self.known = {KEY}
        self.asked = 0

    async def Check(self, request: Any, context: Any) -> Any:
        self.asked += 1
        key = dict(context.invocation_metadata())["authorization"].removeprefix("Bearer ")
        await context.abort(
            grpc.StatusCode.PERMISSION_DENIED if key in self.known else grpc.StatusCode.UNAUTHENTICATED, "no"
        )


@pytest.fixture
def cut_off(governed: Governed, nats_server: Any) -> Iterator[tuple[Governed, User]]:
    """A Router that has had no NATS for longer than the limit, but can reach User."""
    user = User()
    settings = ServiceSettings(name="user", rpc_port=0, host="127.0.0.1")
    server = rpc.Server(settings, lambda server: service.add_UserServiceServicer_to_server(user, server))
    running, thread, _ = serve(create(governed.core, server), "httptools")
    until(lambda: server.port)
    nats_server.kill()
    until(lambda: governed.tenants.away_since() is not None)
    governed.core.confirming = Confirming(f"127.0.0.1:{server.port}", 0, governed.tenants.away_since)
    yield governed, user
    running.should_exit = True
    thread.join()
    nats_server.start()


def test_a_key_revoked_during_a_nats_outage_is_refused_after_the_limit(cut_off: tuple[Governed, User]) -> None:
    governed, user = cut_off
    assert governed.status() == 200
    assert governed.status() == 200
    assert user.asked == 1, "an answer holds for a while"
    user.known.clear()
    governed.core.confirming._confirmed.clear()  # type: ignore[union-attr]
    assert governed.status() == 401
    assert governed.status("cf-operator") == 200, "the table's own keys are not User's"


def test_a_user_service_that_lets_the_router_not_in_confirms_no_key(governed: Governed) -> None:
    """The refusal concerns the Router, not the key."""

    async def confirm(name: str, *callers: str) -> bool:
        settings = ServiceSettings(name=name, rpc_port=0, host="127.0.0.1", callers=callers)
        server = rpc.Server(settings, lambda server: service.add_UserServiceServicer_to_server(User(), server))
        running = asyncio.create_task(server.run())
        while not server.port:
            await asyncio.sleep(0.01)
        confirming = Confirming(f"127.0.0.1:{server.port}", 0, governed.tenants.away_since)
        try:
            return await confirming.confirm(KEY.encode(), b"digest", "acme")
        finally:
            running.cancel()

    forbidden, unauthenticated = ("user", f"{NAMESPACE}/retriever"), ("another", f"{NAMESPACE}/router")
    for wrong in (forbidden, unauthenticated):
        with pytest.raises(ApiError) as refused:
            asyncio.run(confirm(*wrong))
        assert refused.value.status == 503


def test_a_key_that_cannot_be_confirmed_is_refused(cut_off: tuple[Governed, User]) -> None:
    governed, _ = cut_off
    for target in ("127.0.0.1:9", ""):
        governed.core.confirming = Confirming(target, 0, governed.tenants.away_since)
        assert governed.status() == 503


def test_keys_hold_within_the_bound_and_an_alert_can_see_it(cut_off: tuple[Governed, User]) -> None:
    governed, user = cut_off
    governed.core.confirming = Confirming("127.0.0.1:9", 300, governed.tenants.away_since)
    assert governed.status() == 200
    assert user.asked == 0
    assert governed.core.confirming._away_s() > 0


def test_keys_are_not_confirmed_while_nats_is_available(governed: Governed) -> None:
    governed.core.confirming = Confirming("127.0.0.1:9", 0, governed.tenants.away_since)
    until(lambda: governed.tenants.away_since() is None)
    assert governed.status() == 200
