"""Billing's REST operations."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from billing.__main__ import BillingSettings, create
from billing_events import used
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import bus, migrate
from kit.following import Following
from kit.settings import ServiceSettings
from starlette.testclient import TestClient

MONTH = "/v1/billing/tenants/acme/invoices/2026-10"


def put(client: httpx.Client, *events: dict[str, Any]) -> dict[str, int]:
    answer = client.post("/v1/billing/usage", json=list(events))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_invoice_has_a_line_for_each_price(priced: httpx.Client) -> None:
    put(priced, used(input_tokens=1_500_000, output_tokens=250_000), used(input_tokens=500_000, output_tokens=0))
    bill = priced.get(MONTH).json()
    assert [(line["kind"], line["quantity"], line["usd"]) for line in bill["lines"]] == [
        ("input", 2_000_000, "4"),
        ("output", 250_000, "2"),
    ]
    assert bill["total_cents"] == 600


def test_an_event_that_comes_twice_counts_once(priced: httpx.Client) -> None:
    event = used()
    assert put(priced, event, event) == {"taken": 1, "known": 1}
    assert put(priced, event) == {"taken": 0, "known": 1}


def test_the_price_of_the_time_of_use_is_paid(priced: httpx.Client) -> None:
    new = {"model": "*", "kind": "input", "usd": "4", "begins": "2026-10-10T00:00:00Z"}
    assert priced.post("/v1/billing/prices", json=new).status_code == 201
    for day in ("09T23:59:59.999Z", "10T00:00:00Z"):
        put(priced, used(time=f"2026-10-{day}", input_tokens=1_000_000, output_tokens=0))
    assert [line["usd"] for line in priced.get(MONTH).json()["lines"]] == ["2", "4"]


def test_a_tenants_price_precedes_the_general_one_and_a_models_precedes_any(priced: httpx.Client) -> None:
    for tenant, model, usd in (("", "small", "1"), ("acme", "*", "0.5")):
        price = {"tenant": tenant, "model": model, "kind": "input", "usd": usd, "begins": "2026-01-01T00:00:00Z"}
        assert priced.post("/v1/billing/prices", json=price).status_code == 201
    put(priced, used("acme", output_tokens=0), used("other", output_tokens=0))
    assert priced.get(MONTH).json()["lines"][0]["unit_usd"] == "0.5"
    assert priced.get("/v1/billing/tenants/other/invoices/2026-10").json()["lines"][0]["unit_usd"] == "1"


def test_answers_of_the_cache_cost_nothing(priced: httpx.Client) -> None:
    put(priced, used(cached=True))
    assert priced.get(MONTH).json()["total_cents"] == 0


def test_an_invoice_is_the_same_when_it_is_made_again(priced: httpx.Client) -> None:
    put(priced, *(used(input_tokens=n, output_tokens=3 * n) for n in range(1, 200, 7)))
    assert priced.get(MONTH).json() == priced.get(MONTH).json()


def test_an_issued_invoice_never_changes(priced: httpx.Client) -> None:
    put(priced, used())
    issued = priced.post(MONTH)
    assert issued.status_code == 201
    put(priced, used(), used())
    assert priced.get(MONTH).json() == priced.post(MONTH).json() == issued.json()


def test_late_usage_is_on_the_next_invoice(priced: httpx.Client) -> None:
    put(priced, used())
    priced.post(MONTH)
    put(priced, used(output_tokens=0, input_tokens=5))
    late = priced.get("/v1/billing/tenants/acme/invoices/2026-11").json()
    assert [line["quantity"] for line in late["lines"]] == [5]


def _keep_events(connection: psycopg.Connection[Any]) -> None:
    """Copy events into the table "seen", since rows of the outbox are deleted at once."""
    connection.execute(
        "CREATE TABLE seen AS SELECT * FROM events.outbox WITH NO DATA;"
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO seen SELECT NEW.*; RETURN NEW; END $$;"
    )
    connection.execute("ALTER TABLE seen OWNER TO billing")
    connection.execute("CREATE TRIGGER see AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION see()")


def test_operators_changes_of_prices_and_credits_are_audited(settings: BillingSettings, billing: httpx.Client) -> None:
    price = {"model": "m", "kind": "input", "usd": "2", "begins": "2026-01-01T00:00:00Z"}
    credit = {"id": "welcome", "usd": "1", "period": "2026-10"}
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        _keep_events(connection)
        assert billing.post("/v1/billing/prices", json=price).status_code == 201
        for _ in range(2):
            assert billing.post("/v1/billing/tenants/acme/credits", json=credit).status_code == 201
        assert billing.put("/v1/billing/tenants/acme/budget", json={"usd": "5"}).status_code == 200
        rows = connection.execute("SELECT payload FROM seen ORDER BY created").fetchall()
    data = [json.loads(row[0])["data"] for row in rows]
    assert [(d["tenant"], d["kind"], d["id"], d["change"], d["actor"]) for d in data] == [
        ("default", "price", "all/m/input", "created", "key:default"),
        ("acme", "credit", "welcome", "created", "key:default"),
        ("acme", "budget", "acme", "updated", "key:default"),
    ]
    assert [Decimal(d["after"]["usd"]) for d in data] == [2, 1, 5]


def test_issuing_puts_an_event_into_the_outbox(settings: BillingSettings, priced: httpx.Client) -> None:
    put(priced, used(input_tokens=1_000_000, output_tokens=0))
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        _keep_events(connection)
        priced.post(MONTH)
        payload = connection.execute("SELECT payload FROM seen").fetchone()
        left = connection.execute("SELECT count(*) FROM events.outbox").fetchone()
    assert payload is not None
    assert json.loads(payload[0])["data"] == {
        "tenant": "acme",
        "invoice": "1",
        "period": "2026-10",
        "total_cents": 200,
        "currency": "USD",
    }
    assert left == (0,)


def test_a_month_that_is_not_over_is_not_invoiced(priced: httpx.Client) -> None:
    assert priced.post("/v1/billing/tenants/acme/invoices/2099-01").status_code == 409


def test_usage_without_a_price_blocks_the_invoice(billing: httpx.Client) -> None:
    put(billing, used(model="new"))
    answer = billing.post(MONTH)
    assert answer.status_code == 409
    assert "No price is set for input of new, output of new" in answer.json()["error"]["message"]


def test_a_kind_without_a_price_is_an_error_that_names_it(billing: httpx.Client) -> None:
    price = {"model": "*", "kind": "input", "usd": "2", "begins": "2026-01-01T00:00:00Z"}
    assert billing.post("/v1/billing/prices", json=price).status_code == 201
    put(billing, used(input_tokens=0, output_tokens=1_000_000))
    assert billing.get(MONTH).json()["unpriced"] == [{"model": "small", "kind": "output"}]
    answer = billing.post(MONTH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "unpriced_usage")
    assert "No price is set for output of small" in answer.json()["error"]["message"]
    free = {**price, "kind": "output", "usd": "0"}
    assert billing.post("/v1/billing/prices", json=free).status_code == 201
    assert billing.post(MONTH).status_code == 201


def test_a_price_by_request_does_not_make_tokens_free(billing: httpx.Client) -> None:
    price = {"model": "*", "kind": "request", "usd": "2", "begins": "2026-01-01T00:00:00Z"}
    assert billing.post("/v1/billing/prices", json=price).status_code == 201
    put(billing, used(output_tokens=0))
    assert "input of small" in billing.post(MONTH).json()["error"]["message"]


def test_a_price_does_not_reach_back_behind_an_invoice(priced: httpx.Client) -> None:
    put(priced, used())
    priced.post(MONTH)
    price = {"model": "*", "kind": "input", "usd": "1", "begins": "2026-10-20T00:00:00Z"}
    assert priced.post("/v1/billing/prices", json=price).status_code == 409


def test_a_credit_is_granted_once_and_taken_off(priced: httpx.Client) -> None:
    put(priced, used(input_tokens=1_000_000, output_tokens=0))
    credit = {"id": "welcome", "usd": "1.25", "period": "2026-10"}
    for _ in range(2):
        assert priced.post("/v1/billing/tenants/acme/credits", json=credit).status_code == 201
    assert priced.post("/v1/billing/tenants/acme/credits", json={**credit, "usd": "9"}).status_code == 409
    bill = priced.get(MONTH).json()
    assert (bill["gross_usd"], bill["credit_usd"], bill["total_cents"]) == ("2", "1.25", 75)


def test_a_credit_never_makes_an_invoice_negative(priced: httpx.Client) -> None:
    put(priced, used(input_tokens=500_000, output_tokens=0))
    priced.post("/v1/billing/tenants/acme/credits", json={"id": "c", "usd": "100", "period": "2026-10"})
    assert priced.get(MONTH).json()["total_cents"] == 0


def test_the_rest_of_a_budget_is_reported(priced: httpx.Client) -> None:
    from datetime import UTC, datetime

    assert priced.get("/v1/billing/tenants/acme/entitlement").status_code == 404
    assert priced.put("/v1/billing/tenants/acme/budget", json={"usd": "5"}).status_code == 200
    put(priced, used(time=datetime.now(UTC).isoformat(), input_tokens=1_000_000, output_tokens=0))
    found = priced.get("/v1/billing/tenants/acme/entitlement").json()
    amounts = {key: float(value) for key, value in found.items() if key.endswith("_usd")}
    assert amounts == {"budget_usd": 5, "spent_usd": 2, "left_usd": 3}
    assert (found["in_force"], found["replicas"]) == (False, None), "nothing was handed to the Router"


def test_a_budget_is_in_force_once_every_replica_of_the_router_has_applied_it(
    settings: BillingSettings, nats_server: Any
) -> None:
    nats_server.make_buckets("budgets")
    entitlement = "/v1/billing/tenants/acme/entitlement"
    applied: dict[str, bytes | None] = {}
    login = bus.options(ServiceSettings(name="router"))

    async def follow(ended: asyncio.Event) -> None:
        following = asyncio.create_task(Following(nats_server.url, "budgets", applied.__setitem__, login).run())
        await ended.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    with TestClient(create(settings.model_copy(update={"nats_url": nats_server.url}))) as client:

        def becomes(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
            deadline = time.monotonic() + 30
            while not wanted(found := client.get(entitlement).json()):
                assert time.monotonic() < deadline, found
            return found

        assert client.put("/v1/billing/tenants/acme/budget", json={"usd": "5"}).status_code == 200
        found = becomes(lambda found: found.get("replicas") is not None)
        assert not found["in_force"] and found["replicas"]["of"] == 0, "no router is there"
        assert client.portal
        ended = client.portal.call(asyncio.Event)
        following = client.portal.start_task_soon(follow, ended)
        for usd in ("5", "7.5"):
            client.put("/v1/billing/tenants/acme/budget", json={"usd": usd})
            found = becomes(lambda found: found["in_force"])
            assert found["replicas"] == {"in_force": 1, "of": 1, "behind": []}
            assert json.loads(applied["acme"] or b"{}")["budget_usd"] == float(usd)
            shown = client.get("/metrics").text
            assert f"billing_budgets_usd {float(usd)}" in shown and "billing_budgets_reached 0.0" in shown
        client.portal.call(ended.set)
        following.result(10)


@pytest.mark.parametrize(
    ("aggregation", "field", "expected"),
    [
        ("SUM", "input_tokens", 60),
        ("COUNT", "input_tokens", 3),
        ("AVG", "input_tokens", 20),
        ("MIN", "input_tokens", 10),
        ("MAX", "input_tokens", 30),
        ("UNIQUE", "user", 2),
        ("UNIQUE", "model", 1),
    ],
)
def test_a_meter(billing: httpx.Client, aggregation: str, field: str, expected: float) -> None:
    put(billing, *(used(input_tokens=n, user=f"u{n % 20}") for n in (10, 20, 30)), used("other", input_tokens=99))
    query = {"tenant": "acme", "begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    found = billing.get("/v1/billing/meters", params={**query, "aggregation": aggregation, "field": field}).json()
    assert found == {"values": [{"group": "", "value": expected}]}


def test_a_meter_by_day(billing: httpx.Client) -> None:
    put(billing, used(time="2026-10-05T23:59:59Z"), used(time="2026-10-06T00:00:00Z"))
    query = {"tenant": "acme", "begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z", "group": "day"}
    found = billing.get("/v1/billing/meters", params={**query, "aggregation": "COUNT", "field": "model"}).json()
    assert [value["group"] for value in found["values"]] == ["2026-10-05", "2026-10-06"]


def test_words_cannot_be_summed(billing: httpx.Client) -> None:
    query = {"tenant": "a", "begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
    assert billing.get("/v1/billing/meters", params={**query, "aggregation": "SUM", "field": "user"}).status_code == 400


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), min_size=1, max_size=30))
def test_a_total_is_right_to_the_cent(priced: httpx.Client, amounts: list[tuple[int, int]]) -> None:
    tenant = uuid.uuid4()
    put(priced, *(used(str(tenant), input_tokens=i, output_tokens=o) for i, o in amounts))
    exact = sum(Decimal(i) * 2 + Decimal(o) * 8 for i, o in amounts) / 1_000_000
    bill = priced.get(f"/v1/billing/tenants/{tenant}/invoices/2026-10").json()
    assert bill["total_cents"] == int(exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN) * 100)


def test_a_replay_through_crashes_loses_and_doubles_nothing(
    settings: BillingSettings, priced: httpx.Client, postgres_server: Any
) -> None:
    """The database is killed repeatedly while events are sent, until all are acknowledged."""
    events = [used(id=f"event-{n}", input_tokens=1_000_000, output_tokens=0) for n in range(2000)]
    for number, begin in enumerate(range(0, len(events), 200)):
        batch = events[begin : begin + 200]
        if number % 3 == 1:
            postgres_server.kill()
            assert priced.post("/v1/billing/usage", json=batch).status_code == 503
            postgres_server.start()
        while priced.post("/v1/billing/usage", json=batch).status_code != 200:
            pass
        priced.post("/v1/billing/usage", json=events[max(0, begin - 100) : begin + 100])
    with TestClient(create(settings)) as again:
        assert again.get(MONTH).json()["lines"][0]["events"] == 2000
        assert again.get(MONTH).json()["total_cents"] == 2000 * 200


def test_tables_can_be_taken_back_and_made_again(settings: BillingSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("billing", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('usage')").fetchone() == (None,)
    migrate.migrate("billing", url)


def test_the_openapi_document_is_current(billing: httpx.Client) -> None:
    kept = json.loads((Path(__file__).resolve().parents[1] / "openapi.json").read_text())
    assert billing.get("/openapi.json").json() == kept


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.text(max_size=40), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3), st.binary())
def test_no_input_makes_a_server_error(billing: httpx.Client, path: str, query: dict[str, str], body: bytes) -> None:
    path = quote(path, errors="replace")
    for where in (
        "/v1/billing/meters",
        f"/v1/billing/tenants/{path}/entitlement",
        f"/v1/billing/tenants/{path}/invoices/{path}",
    ):
        assert billing.get(where, params=query).status_code < 500
    for where in (
        "/v1/billing/usage",
        "/v1/billing/prices",
        f"/v1/billing/tenants/{path}/credits",
        f"/v1/billing/tenants/{path}/invoices/2026-01",
    ):
        assert billing.post(where, content=body, params=query).status_code < 500
