"""Rights of API keys in Billing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from billing.__main__ import BillingSettings, create
from billing_events import used
from kit.directory import Grant
from starlette.testclient import TestClient

OPERATOR, CUSTOMER, OTHER = "operator", "customer", "other"
SCOPES: dict[str, tuple[str, ...]] = {OPERATOR: ("admin",), CUSTOMER: ("billing",), OTHER: ("inference",)}
GRANTS = {key: Grant("acme", key, scopes=scopes) for key, scopes in SCOPES.items()}
PRICES = "/v1/billing/prices"


def as_(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(
    settings: BillingSettings, known_keys: Callable[[dict[str, Grant]], dict[str, Any]]
) -> Iterator[httpx.Client]:
    more = known_keys(GRANTS)
    with TestClient(create(settings.model_copy(update=more)), raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 5
        while client.get(PRICES, headers=as_(CUSTOMER)).status_code == 401 and time.monotonic() < deadline:
            time.sleep(0.01)
        for tenant, usd in (("", "1"), ("acme", "2"), ("rival", "3")):
            price = {"tenant": tenant, "model": "m", "kind": "input", "usd": usd, "begins": "2026-01-01T00:00:00Z"}
            client.post(PRICES, json=price, headers=as_(OPERATOR)).raise_for_status()
        yield client


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "prices"),
        ("POST", "usage"),
        ("POST", "tenants/acme/credits"),
        ("PUT", "tenants/acme/budget"),
        ("POST", "tenants/acme/invoices/2026-01"),
    ],
)
def test_only_operators_change_prices_and_credits(keyed: httpx.Client, method: str, path: str) -> None:
    answer = keyed.request(method, f"/v1/billing/{path}", json={}, headers=as_(CUSTOMER))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


def test_a_tenant_sees_its_own_prices_and_those_for_all(keyed: httpx.Client) -> None:
    assert {p["tenant"] for p in keyed.get(PRICES, headers=as_(CUSTOMER)).json()} == {"", "acme"}
    assert {p["tenant"] for p in keyed.get(PRICES, headers=as_(OPERATOR)).json()} == {"", "acme", "rival"}


@pytest.mark.parametrize(
    "path",
    [
        "tenants/{}/invoices/2026-01",
        "tenants/{}/entitlement",
        "meters?tenant={}&aggregation=COUNT&field=model&begin=2026-01-01T00:00:00Z&end=2027-01-01T00:00:00Z",
    ],
)
def test_a_tenant_sees_nothing_of_another(keyed: httpx.Client, path: str) -> None:
    keyed.put("/v1/billing/tenants/acme/budget", json={"usd": "1"}, headers=as_(OPERATOR)).raise_for_status()
    assert keyed.get(f"/v1/billing/{path.format('acme')}", headers=as_(CUSTOMER)).status_code == 200
    assert keyed.get(f"/v1/billing/{path.format('rival')}", headers=as_(CUSTOMER)).status_code == 404
    assert keyed.get(f"/v1/billing/{path.format('acme')}", headers=as_(OTHER)).status_code == 403
    assert keyed.get(f"/v1/billing/{path.format('acme')}").status_code == 401


def test_an_operator_sees_what_all_tenants_used_and_a_tenant_its_own(keyed: httpx.Client) -> None:
    events = [used(tenant, input_tokens=tokens) for tenant, tokens in (("acme", 10), ("rival", 32))]
    keyed.post("/v1/billing/usage", json=events, headers=as_(OPERATOR)).raise_for_status()
    span = {"begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    query = {"aggregation": "SUM", "field": "input_tokens", "group": "tenant", **span}

    def seen(key: str) -> list[dict[str, Any]]:
        return keyed.get("/v1/billing/meters", params=query, headers=as_(key)).json()["values"]

    assert seen(OPERATOR) == [{"group": "acme", "value": 10}, {"group": "rival", "value": 32}]
    assert seen(CUSTOMER) == [{"group": "acme", "value": 10}]


def test_a_tenant_sees_its_own_requests_and_an_operator_all(keyed: httpx.Client) -> None:
    events = [used(tenant, request=name) for tenant, name in (("acme", "mine"), ("rival", "theirs"), ("rival", "mine"))]
    keyed.post("/v1/billing/usage", json=events, headers=as_(OPERATOR)).raise_for_status()

    def seen(key: str, name: str) -> tuple[int, list[str]]:
        answer = keyed.get(f"/v1/billing/requests/{name}", headers=as_(key))
        return answer.status_code, [one["tenant"] for one in answer.json().get("requests", ())]

    assert seen(CUSTOMER, "mine") == (200, ["acme"])
    assert seen(OPERATOR, "mine") == (200, ["acme", "rival"])
    assert seen(OPERATOR, "theirs") == (200, ["rival"])
    assert seen(OTHER, "mine") == (403, [])
    others, unknown = (keyed.get(f"/v1/billing/requests/{name}", headers=as_(CUSTOMER)) for name in ("theirs", "no"))
    assert (others.status_code, others.json()) == (404, unknown.json())
