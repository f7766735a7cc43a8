"""The search of requests: what is found, page by page, and that an index finds it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from billing.__main__ import BillingSettings
from billing.searching import Search, cursor, statement
from billing_events import used

REQUESTS = "/v1/billing/requests"
OCTOBER = {"begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
MANY = """
INSERT INTO usage (source, id, tenant, period, time, model, operation, input_tokens, output_tokens, cached, "user",
                   duration_ms, trace, request, status)
SELECT 'made-up', n::text, 'team-' || n %% 50, '2026-10-01', '2026-10-01T00:00:00Z'::timestamptz + n * interval '2 min',
       'model-' || n %% 7, 'chat', 10, 10, false, '', 1, '', 'r-' || n, CASE WHEN n %% 200 = 0 THEN 503 ELSE 200 END
FROM generate_series(1, %s) AS n
"""

FILTERS: tuple[dict[str, str], ...] = ({}, {"model": "model-3"}, {"status": "5xx"}, {"status": "200"})


def put(client: httpx.Client, *events: dict[str, Any]) -> None:
    client.post("/v1/billing/usage", json=list(events)).raise_for_status()


def search(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get(REQUESTS, params={**OCTOBER, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_requests_are_found_by_tenant_model_status_and_time(billing: httpx.Client) -> None:
    put(
        billing,
        used(request="a", status=200, time="2026-10-01T00:00:00Z"),
        used(request="b", status=429, model="large", time="2026-10-02T00:00:00Z"),
        used("rival", request="c", status=503, time="2026-10-03T00:00:00Z"),
        used(request="d", time="2026-11-01T00:00:00Z"),
    )

    def found(**query: Any) -> list[str]:
        return [one["request"] for one in search(billing, **query)["requests"]]

    assert found() == ["c", "b", "a"], "newest first, and the end is not included"
    assert found(tenant="acme") == ["b", "a"]
    assert found(model="large") == ["b"]
    assert found(status="429") == ["b"] and found(status="5xx") == ["c"] and found(status="2xx") == ["a"]
    assert found(tenant="acme", status="5xx") == []
    assert found(begin="2026-10-02T00:00:00Z", end="2026-10-02T00:00:01Z") == ["b"]
    (one,) = search(billing, model="large")["requests"]
    assert (one["tenant"], one["status"], one["input_tokens"], one["output_tokens"]) == ("acme", 429, 1000, 100)


def test_pages_have_each_request_once_although_new_ones_arrive(billing: httpx.Client) -> None:
    put(billing, *(used(request=f"r{n}", time=f"2026-10-05T10:00:{n // 3:02}Z") for n in range(25)))
    seen: list[str] = []
    page: dict[str, Any] = search(billing, limit=10)
    while True:
        seen += [one["request"] for one in page["requests"]]
        put(billing, used(request="new", time="2026-10-05T11:00:00Z"))
        if page["next"] is None:
            break
        page = search(billing, limit=10, after=page["next"])
    assert sorted(seen) == sorted(f"r{n}" for n in range(25))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"end": "2026-11-01T00:00:01Z"}, "end"),
        ({"end": "2026-10-01T00:00:00Z"}, "end"),
        ({"after": "bm8"}, "after"),
        ({"after": "WyIyMDI2LTEwLTAxVDAwOjAwOjAwIiwiYSIsImIiXQ"}, "after"),
        ({"status": "6xx"}, "status"),
        ({"limit": "101"}, "limit"),
        ({"tenant": "a\0"}, "tenant"),
    ],
)
def test_what_is_no_search_is_refused(billing: httpx.Client, query: dict[str, str], param: str) -> None:
    answer = billing.get(REQUESTS, params={**OCTOBER, **query})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_an_index_finds_the_rows(settings: BillingSettings) -> None:
    begin = datetime(2026, 10, 1, tzinfo=UTC)
    later = cursor(begin + timedelta(days=9), "made-up", "6480")
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute(MANY, (20_000,))
        connection.execute("ANALYZE usage")
        for tenant, filters, after in itertools.product(("", "team-7"), FILTERS, ("", later)):
            search = Search(begin=begin, end=begin + timedelta(days=31), after=after, **filters)
            text, values = statement(search, tenant)
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {text}".encode(), values).fetchall())
            assert "Seq Scan" not in plan and "Index" in plan, (tenant, filters, after, plan)
