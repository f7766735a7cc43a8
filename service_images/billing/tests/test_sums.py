"""The daily sums: equal to the usage itself, whatever changes it, and what invoices and meters read."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import psycopg
from billing.__main__ import BillingSettings
from billing.meters import Group
from billing_events import used
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import migrate

OF_MODELS = """
SELECT tenant, period, (time AT TIME ZONE 'UTC')::date, model, operation, cached, count(*), sum(input_tokens),
       count(*) FILTER (WHERE input_tokens > 0), sum(output_tokens), count(*) FILTER (WHERE output_tokens > 0)
FROM usage GROUP BY 1, 2, 3, 4, 5, 6
"""
OF_USERS = """
SELECT tenant, (time AT TIME ZONE 'UTC')::date, "user", count(*), sum(input_tokens), sum(output_tokens)
FROM usage GROUP BY 1, 2, 3
"""
OF_KEYS = OF_USERS.replace('"user"', "key")
MONTH = {"begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}


def put(client: httpx.Client, *events: dict[str, Any]) -> None:
    client.post("/v1/billing/usage", json=list(events)).raise_for_status()


def equal(settings: BillingSettings) -> int:
    """Compare the sums with the usage. Returns the number of sums."""
    with psycopg.connect(settings.database(pooled=False)) as connection:
        count = 0
        for query, table in ((OF_MODELS, "model_days"), (OF_USERS, "user_days"), (OF_KEYS, "key_days")):
            kept = connection.execute(f"SELECT * FROM {table}".encode()).fetchall()
            assert sorted(kept) == sorted(connection.execute(query.encode()).fetchall()), table
            count += len(kept)
    return count


def test_the_sums_follow_new_usage_erased_names_and_expired_records(
    billing: httpx.Client, settings: BillingSettings
) -> None:
    events = [used(tenant, user=user, key=f"of-{user}", model=model, time=f"2026-10-05T{hour}:00:00Z",
                   cached=hour == "23")
              for tenant in ("acme", "rival") for user in ("ann", "bob") for model in ("small", "large")
              for hour in ("00", "23")]  # fmt: skip
    put(billing, *events)
    put(billing, *events, used(time="2026-10-06T00:00:00Z", input_tokens=0))
    assert equal(settings) > 8
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("""UPDATE usage SET "user" = '', key = '' WHERE tenant = 'acme'""")
        equal(settings)
        connection.execute("DELETE FROM usage WHERE model = 'large' OR tenant = 'rival'")
        equal(settings)
        connection.execute("DELETE FROM usage")
    assert equal(settings) == 0


def test_usage_from_before_the_sums_is_in_them(billing: httpx.Client, settings: BillingSettings) -> None:
    url = settings.database(pooled=False)
    put(billing, used(user="ann"), used("rival", model="large"))
    migrate.migrate("billing", url, "downgrade", "0007")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE usage SET input_tokens = 77")
    migrate.migrate("billing", url)
    assert equal(settings) == 6


TIMES = st.integers(0, 3 * 24 * 60)
"""Minutes after the beginning of 2026-10-05."""


def at(minutes: int) -> str:
    return (datetime(2026, 10, 5, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat()


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(
    st.lists(st.tuples(TIMES, st.integers(0, 1000), st.integers(0, 1000), st.booleans()), min_size=1, max_size=12),
    st.lists(st.tuples(TIMES | st.sampled_from((0, 1440)), st.sampled_from(("input", "output", "request")),
                       st.sampled_from(("*", "small")), st.integers(1, 9)),
             max_size=6, unique_by=lambda one: one[:3]),
)  # fmt: skip
def test_an_invoice_is_the_sum_of_its_requests_although_prices_begin_at_any_time(
    billing: httpx.Client, settings: BillingSettings, events: list[Any], prices: list[Any]
) -> None:
    tenant = uuid.uuid4().hex
    for begins, kind, model, usd in prices:
        price = {"tenant": tenant, "model": model, "kind": kind, "usd": str(usd), "begins": at(begins)}
        billing.post("/v1/billing/prices", json=price).raise_for_status()
    sent = [used(tenant, request=uuid.uuid4().hex, time=at(time), input_tokens=i, output_tokens=o, cached=cached)
            for time, i, o, cached in events]  # fmt: skip
    put(billing, *sent)
    single = [billing.get(f"/v1/billing/requests/{event['data']['request']}").json()["requests"][0] for event in sent]
    whole = billing.get(f"/v1/billing/tenants/{tenant}/invoices/2026-10").json()
    assert Decimal(whole["gross_usd"]) == sum(Decimal(one["usd"]) for one in single)
    assert {one["kind"] for one in whole["unpriced"]} == {kind for one in single for kind in one["unpriced"]}
    assert sum(line["events"] for line in whole["lines"]) == sum(len(one["lines"]) for one in single)


def test_a_meter_of_whole_days_equals_that_of_its_events(billing: httpx.Client) -> None:
    for n in range(60):
        time = f"2026-10-{n % 28 + 1:02}T10:00:00Z"
        more: dict[str, Any] = {"user": f"u{n % 3}", "key": f"k{n % 4}", "model": f"m{n % 2}", "input_tokens": n}
        put(billing, *(used(who, time, **more) for who in ("acme", "rival")))
    kinds = (("SUM", "input_tokens"), ("SUM", "output_tokens"), ("COUNT", "user"))
    for group, tenant, (aggregation, field) in itertools.product(Group, ("acme", ""), kinds):
        query = {"tenant": tenant, "aggregation": aggregation, "field": field, "group": group.value, **MONTH}
        whole = billing.get("/v1/billing/meters", params=query).json()
        single = billing.get("/v1/billing/meters", params={**query, "end": "2026-11-01T00:00:01Z"}).json()
        assert whole == single and whole["values"], query


def test_a_month_without_usage_has_no_values(billing: httpx.Client) -> None:
    query = {"aggregation": "SUM", "field": "input_tokens", **MONTH}
    assert billing.get("/v1/billing/meters", params=query).json()["values"] == [{"group": "", "value": 0.0}]
    assert billing.get("/v1/billing/meters", params={**query, "group": "day"}).json()["values"] == []
