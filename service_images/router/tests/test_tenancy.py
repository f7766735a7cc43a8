"""Keys, rates and budgets; and cached answers, which belong to one tenant."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router.cache import ResponseCache  # noqa: E402
from router.routes import RouteTable, RouteTableError, parse  # noqa: E402
from router.tenancy import Account, Accounts, Bucket, digest_of  # noqa: E402

ROUTES = [{"model": "m", "upstream": "http://127.0.0.1:9"}]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def table(*tenants: dict[str, Any]) -> RouteTable:
    return RouteTable.model_validate({"routes": ROUTES, "tenants": tenants})


def account(**limits: Any) -> Account:
    return Accounts(table({"id": "t", "keys": [digest("k")], **limits}), 0.0).all()[0]


def test_a_tenant_is_found_by_its_key() -> None:
    accounts = Accounts(table({"id": "one", "keys": [digest("k1")]}, {"id": "two", "keys": [digest("k2")]}), 0.0)
    found = accounts.of(digest_of(b"k2"), b"")
    assert found is not None
    assert found.id == "two"


def test_a_tenant_is_found_by_the_client_that_the_gateway_names() -> None:
    found = Accounts(table({"id": "one", "clients": ["default"]}), 0.0).of(b"", b"default")
    assert found is not None


@pytest.mark.parametrize(("key", "client"), [(b"wrong", b""), (b"", b""), (b"", b"nobody"), (b"wrong", b"default")])
def test_an_unauthenticated_client_has_no_account(key: bytes, client: bytes) -> None:
    accounts = Accounts(table({"id": "one", "keys": [digest("k")], "clients": ["default"]}), 0.0)
    assert accounts.of(digest_of(key), client) is None


def test_without_tenants_everybody_is_the_same_one() -> None:
    found = Accounts(table(), 0.0).of(digest_of(b"anything"), b"")
    assert found is not None
    assert found.id == "default"


@given(st.integers(1, 600), st.lists(st.floats(0, 5), max_size=400))
def test_a_rate_is_never_exceeded_beyond_the_saved_tokens(per_minute: int, pauses: list[float]) -> None:
    bucket, now, taken = Bucket(per_minute, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.wait_s(1, now) == 0.0
    assert taken <= per_minute + now * per_minute / 60 + 1


def test_after_retry_after_a_request_is_admitted() -> None:
    bucket = Bucket(60, 0.0)
    for _ in range(60):
        assert bucket.wait_s(1, 0.0) == 0.0
    wait = bucket.wait_s(1, 0.0)
    assert 0 < wait <= 1.001
    assert bucket.wait_s(1, wait + 0.001) == 0.0


def test_unused_reservations_are_returned() -> None:
    mine = account(tokens_per_minute=1000)
    assert mine.admit(900, 0.0, 0.0) is None
    assert mine.admit(900, 0.0, 0.0) is not None
    mine.settle(900, 100, 0.0, 0.0)
    assert mine.admit(900, 0.0, 0.0) is None


def test_requests_under_way_cannot_overspend_together() -> None:
    mine = account(budget_usd=1.0)
    admitted = sum(mine.admit(10, 0.3, 0.0) is None for _ in range(10))
    assert admitted == 3


@given(st.lists(st.tuples(st.floats(0.001, 0.2), st.floats(0, 1)), max_size=200))
def test_a_budget_is_not_overspent_while_estimates_hold(requests: list[tuple[float, float]]) -> None:
    mine = account(budget_usd=1.0)
    for estimate, part in requests:
        if mine.admit(10, estimate, 0.0) is None:
            mine.settle(10, 10, estimate, estimate * part)
    assert mine.spent <= 1.0 + 1e-9


def test_spending_outlives_a_reload() -> None:
    before = Accounts(table({"id": "t", "keys": [digest("k")], "budget_usd": 1.0}), 0.0)
    before.all()[0].settle(0, 0, 0.0, 0.9)
    after = Accounts(table({"id": "t", "keys": [digest("new")], "budget_usd": 1.0}), 1.0, before)
    found = after.of(digest_of(b"new"), b"")
    assert found is not None
    assert found.spent == 0.9
    assert after.of(digest_of(b"k"), b"") is None, "a key that was taken away is gone at once"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"routes": ROUTES, "tenants": [{"id": "t", "keys": ["cf-plain-key"]}]}, "must be the SHA-256"),
        ({"routes": ROUTES, "tenants": [{"id": "t"}, {"id": "t"}]}, "the same tenant occurs twice: t"),
        ({"routes": [*ROUTES, *ROUTES]}, "the same model occurs twice: m"),
        ({"routes": [{**ROUTES[0], "fallbacks": ["x"]}]}, "fallbacks to unknown models: x"),
        ({"routes": [{"model": "m"}]}, "set either upstream or targets"),
        ({"routes": [{**ROUTES[0], "strategy": "canary"}]}, "required with strategy canary"),
        ({"routes": ROUTES, "tenants": [{"id": 'a"b'}]}, "tenants.0.id"),
        ({"routes": [{"model": "m", "targets": [{"name": "a\r\nb", "upstream": "http://h:1"}]}]}, "targets.0.name"),
        ({"routes": [{"model": "m", "targets": [{"upstream": "http://h:1", "weight": 0}]}]}, "at least one weight"),
    ],
)
def test_a_mistake_in_the_table_is_named(content: dict[str, Any], words: str) -> None:
    import json

    with pytest.raises(RouteTableError) as error:
        parse(json.dumps(content), "test")
    assert words in str(error.value)


# --- cache ------------------------------------------------------------------------------------


def test_an_answer_is_kept_for_its_time() -> None:
    cache = ResponseCache()
    cache.put(b"k", b"answer", 10.0)
    assert cache.get(b"k", 9.9) == b"answer"
    assert cache.get(b"k", 10.0) is None


@given(st.binary(), st.binary(), st.binary())
def test_two_tenants_never_share_an_answer(one: bytes, other: bytes, body: bytes) -> None:
    if one != other:
        assert ResponseCache.key(one, b"/p", body) != ResponseCache.key(other, b"/p", body)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3000)), max_size=200))
def test_the_cache_stays_within_its_size(entries: list[tuple[int, int]]) -> None:
    cache = ResponseCache(max_bytes=8000)
    for number, size in entries:
        cache.put(str(number).encode(), b"x" * size, 10.0)
        assert cache._size <= 8000
        assert cache._size == sum(len(body) + 200 for _, body in cache._entries.values())


def test_the_least_recently_used_answer_is_evicted_first() -> None:
    cache = ResponseCache(max_bytes=3 * 1200)
    for name in (b"a", b"b", b"c"):
        cache.put(name, b"x" * 1000, 10.0)
    cache.get(b"a", 0.0)
    cache.put(b"d", b"x" * 1000, 10.0)
    assert cache.get(b"a", 0.0) is not None
    assert cache.get(b"b", 0.0) is None
