"""Requests: searched, page by page, and one of them from its key to its proof in the audit log."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service_images.portal.tests.conftest import TRACE, Browser, record, usage
from service_images.portal.tests.running_platform import OPERATOR, Platform
from service_images.portal.tests.test_bad_cases import ATTACK, _harmless
from service_images.router.tests.conftest import until


def test_requests_are_searched_by_model_status_and_time(member: Browser, operator: httpx.Client, tenant: str) -> None:
    record(operator, usage(tenant, request="good-1", status=200), usage(tenant, "large", request="bad-1", status=503),
           audit=False)  # fmt: skip
    page = member.open("/portal/requests")
    assert "good-1" in page and "bad-1" in page and "Tenant</th>" not in page
    page = member.open("/portal/requests?status=5xx")
    assert "bad-1" in page and "good-1" not in page
    page = member.open("/portal/requests?model=demo")
    assert "good-1" in page and "bad-1" not in page
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
    assert "No request fits" in member.open(f"/portal/requests?end={yesterday}")
    page = member.open("/portal/requests?begin=2026-01-01&end=2026-12-31")
    assert "at most 31 days" in page and member.answer.status_code == 200
    for days in ("begin=2026-02-31", "begin=2026-02-02&end=2026-02-01"):
        assert "A day does not exist" in member.open(f"/portal/requests?{days}")
        assert member.answer.status_code == 400


def test_operators_search_all_tenants_and_members_their_own(
    member: Browser, operator: httpx.Client, tenant: str, platform: Platform
) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    record(operator, usage(tenant, request=f"of-{tenant}"), usage(other, request=f"of-{other}"), audit=False)
    page = member.open(f"/portal/requests?tenant={other}")
    assert f"of-{tenant}" in page and f"of-{other}" not in page, "the page has no tenants for members"
    path = f"/v1/billing/requests?tenant={other}&begin=2026-11-01T00:00:00Z&end=2026-11-02T00:00:00Z"
    page = member.open(f"/portal/query?{httpx.QueryParams(path=path)}")
    assert "does not exist" in page
    with platform.client() as client:
        browser = Browser(client)
        browser.sign_in(OPERATOR)
        page = browser.open(f"/portal/requests?tenant={other}")
        assert f"of-{other}" in page and f"of-{tenant}" not in page and 'name="tenant"' in page


def test_older_requests_are_on_the_next_page(member: Browser, operator: httpx.Client, tenant: str) -> None:
    record(operator, *(usage(tenant, request=f"r-{n}.") for n in range(60)), audit=False)
    page = member.open("/portal/requests?model=demo")
    following = page.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    later = member.open(following)
    names = [f"r-{n}." for n in range(60)]
    assert [(name in page) + (name in later) for name in names] == [1] * 60
    assert 'rel="next"' not in later and "Newest" in later


def test_a_requests_whole_life_is_on_its_page(member: Browser, operator: httpx.Client, tenant: str) -> None:
    for kind, usd in (("input", "1000"), ("output", "2000")):
        price = {"tenant": tenant, "model": "demo", "kind": kind, "usd": usd, "begins": "2020-01-01T00:00:00Z"}
        assert operator.post("/v1/billing/prices", json=price).status_code == 201
    choice = {"strategy": "bandit", "targets": [{"target": "gpu-a", "score": 0.91, "in_flight": 3, "broken": True},
                                                {"target": "gpu-b", "score": 0.4, "in_flight": 0}]}  # fmt: skip
    attempts = [
        {"target": "gpu-a", "begun_ms": 0.5, "duration_ms": 90.0, "outcome": "interrupted", "reason": "closed"},
        {"target": "gpu-b", "begun_ms": 91.0, "duration_ms": 40.0, "outcome": "answered", "continues": True},
    ]
    name = f"whole-life.{uuid.uuid4().hex[:8]}"
    data = {"request": name, "status": 200, "key": "key-7", "scopes": ["inference"], "target": "gpu-b",
            "duration_ms": 131.5, "choice": choice, "attempts": attempts, "guard": {"input": "redact"}}  # fmt: skip
    record(operator, usage(tenant, **data))
    member.open("/portal/requests")
    page = member.open(f"/portal/requests?id={name}")
    assert member.address == "/portal/requests/one" and member.answer.status_code == 200
    for part in ("key-7", "inference", "bandit", "breaker open", "interrupted: closed", "continues the stream",
                 "redact", "131.50 ms", "$1.40", "not issued yet", TRACE, "proven in the log of"):  # fmt: skip
        assert part in page, part
    assert "not proven" not in page and 'class="notice' not in page


def test_an_unknown_request_and_one_of_another_tenant_look_alike(member: Browser, operator: httpx.Client) -> None:
    record(operator, usage("somebody", request="theirs"))
    pages = [member.open(f"/portal/requests/one?id={name}").replace(name, "ID") for name in ("theirs", "nobodys")]
    assert pages[0] == pages[1] and member.answer.status_code == 404
    assert "not known, or it belongs to another tenant" in pages[0]


@pytest.mark.parametrize("away", ["billing", "audit"])
def test_a_part_that_is_away_is_named_and_the_rest_stands(
    member: Browser, platform: Platform, operator: httpx.Client, tenant: str, away: str
) -> None:
    name = f"half-{uuid.uuid4().hex[:8]}"
    record(operator, usage(tenant, request=name, status=200, key="key-9", target="gpu-a"))
    address = f"/portal/requests/one?id={name}"
    with platform.without(away):
        page = member.open(address)
        assert member.answer.status_code == 200 and f"{away.capitalize()} does not answer" in page
        assert ("key-9" in page) == (away == "billing") and "1,000 read" in page
        if away == "billing":
            assert "Billing does not answer" in member.open("/portal/requests")
            assert member.answer.status_code == 200 and 'name="model"' in member.page
    until(lambda: "does not answer" not in member.open(address))


def test_texts_of_requests_are_text(member: Browser, operator: httpx.Client, tenant: str) -> None:
    name = f"attack-{uuid.uuid4().hex[:8]}"
    attempts = [{"target": ATTACK, "begun_ms": 0, "duration_ms": 1, "outcome": "failed", "reason": ATTACK}]
    record(operator, usage(tenant, ATTACK, ATTACK, request=name, status=500, attempts=attempts))
    _harmless(member.open("/portal/requests"))
    _harmless(member.open(f"/portal/requests/one?id={name}"))
    _harmless(member.open(f"/portal/requests?{httpx.QueryParams(id=ATTACK, model=ATTACK)}"))
    assert member.answer.status_code == 400


@pytest.mark.parametrize("query", ["id=a%00b", "status=6xx", "begin=x", "after=%2F", "model=a%00", "limit=1"])
def test_what_is_no_search_is_a_page_that_says_so(member: Browser, query: str) -> None:
    page = member.open(f"/portal/requests?{query}")
    assert member.answer.status_code == 400 and "That did not work" in page


def test_a_forged_entry_is_not_proven() -> None:
    from kit.ledger import life
    from portal.gateway import Answer
    from portal.requests import _trusted

    leaf = {"type": "dev.cogniforge.usage.recorded.v1", "tenant": "a", "source": "s", "id": "1"}
    entry = {"number": 0, "entry": json.dumps(leaf), "content": None, "proof": [], "event": {}}
    logged = Answer("GET", "/", 200, {"entries": [entry], "more": False, "checkpoint": "made up"})
    trusted = _trusted(logged, Answer("GET", "/", 200, text="log+00000000+AAAA"))
    (one,) = life.requests(logged.content, None, trusted)
    assert [(leaf["verified"], bool(leaf["reason"])) for leaf in one["audit"]] == [(False, True)]
