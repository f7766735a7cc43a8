"""What one request has cost, and who may see that."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from billing.requests import MOST
from billing_events import used

from service_images import hostile

REQUESTS = "/v1/billing/requests"


def put(client: httpx.Client, *events: dict[str, Any], **more: Any) -> None:
    client.post("/v1/billing/usage", json=list(events), **more).raise_for_status()


def test_a_request_has_a_line_for_each_priced_kind_of_usage(priced: httpx.Client) -> None:
    per_request = {"model": "small", "kind": "request", "usd": "0.5", "per": 1000, "begins": "2026-01-01T00:00:00Z"}
    priced.post("/v1/billing/prices", json=per_request).raise_for_status()
    put(priced, used(id="e1", request="r1", user="ann", input_tokens=1000, output_tokens=500, duration_ms=12.5))
    (found,) = priced.get(f"{REQUESTS}/r1").json()["requests"]
    assert [
        (line["kind"], line["quantity"], line["unit_usd"], line["per"], line["usd"]) for line in found["lines"]
    ] == [
        ("input", 1000, "2", 1_000_000, "0.002"),
        ("output", 500, "8", 1_000_000, "0.004"),
        ("request", 1, "0.5", 1000, "0.0005"),
    ]
    assert (found["usd"], found["unpriced"], found["event"], found["user"]) == ("0.0065", [], "e1", "ann")
    assert found["lines"][2]["price_model"] == "small" and found["lines"][0]["price_model"] == "*"
    assert found["invoice"] == {"period": "2026-10", "number": None, "issued": None, "lines": []}


def test_an_issued_invoice_shows_the_lines_that_include_the_request(priced: httpx.Client) -> None:
    put(priced, used(request="r1"), used(request="r2"), used(request="r3", model="large"))
    issued = priced.post("/v1/billing/tenants/acme/invoices/2026-10").json()
    (found,) = priced.get(f"{REQUESTS}/r1").json()["requests"]
    assert found["invoice"]["number"] == issued["number"]
    assert [(line["model"], line["kind"], line["events"]) for line in found["invoice"]["lines"]] == [
        ("small", "input", 2),
        ("small", "output", 2),
    ]


def test_the_price_of_a_request_is_that_of_its_time_and_its_invoice_the_first_open_one(priced: httpx.Client) -> None:
    price = {"model": "*", "kind": "input", "usd": "4", "begins": "2026-11-01T00:00:00Z"}
    priced.post("/v1/billing/tenants/acme/invoices/2026-10").raise_for_status()
    priced.post("/v1/billing/prices", json=price).raise_for_status()
    put(priced, used(request="late", time="2026-10-05T10:00:00Z"), used(request="new", time="2026-11-02T10:00:00Z"))
    late, new = (priced.get(f"{REQUESTS}/{name}").json()["requests"][0] for name in ("late", "new"))
    assert [found["lines"][0]["unit_usd"] for found in (late, new)] == ["2", "4"]
    assert [found["invoice"]["period"] for found in (late, new)] == ["2026-11", "2026-11"]


def test_usage_without_a_price_is_named_and_a_kept_answer_costs_nothing(billing: httpx.Client) -> None:
    put(billing, used(request="r1"), used(request="r2", cached=True))
    first, second = (billing.get(f"{REQUESTS}/{name}").json()["requests"][0] for name in ("r1", "r2"))
    assert (first["usd"], first["unpriced"]) == ("0", ["input", "output"])
    assert (second["usd"], second["unpriced"], second["lines"]) == ("0", [], [])


def test_a_repeated_id_lists_the_newest_answers(priced: httpx.Client) -> None:
    events = [used(request="again", time=f"2026-10-05T10:00:{second:02}Z") for second in range(MOST + 5)]
    put(priced, *events)
    found = priced.get(f"{REQUESTS}/again").json()
    assert (len(found["requests"]), found["more"]) == (MOST, True)
    times = [one["time"] for one in found["requests"]]
    assert times == sorted(times, reverse=True) and times[0].startswith(f"2026-10-05T10:00:{MOST + 4}")


@pytest.mark.parametrize("name", hostile.IDS)
def test_a_hostile_id_is_refused_or_unknown(billing: httpx.Client, name: str) -> None:
    put(billing, used(request="r1"), used())
    answer = billing.get(f"{REQUESTS}/{name}")
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


def test_usage_without_an_id_is_not_found_by_an_empty_one(billing: httpx.Client) -> None:
    put(billing, used(), used())
    answer = billing.get(f"{REQUESTS}/")
    assert answer.status_code == 400 and "begin" in answer.text, "without an ID, it is a search without a time range"
