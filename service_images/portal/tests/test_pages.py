"""Pages before the real services: what people see, do, and may not do."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable

import httpx
import pytest

from service_images.portal.tests.conftest import Browser, Forms, usage
from service_images.portal.tests.running_platform import EVIDENCE, OPERATOR, Platform
from service_images.router.tests.conftest import Target, until

PAGES = ("mine", "ask", "requests", "routes", "prompts", "now", "map", "alerts", "evidence")


def test_who_has_not_signed_in_is_sent_to_the_page_for_it_and_back(
    browser: Browser, make_key: Callable[..., str]
) -> None:
    browser.open("/portal/prompts?after=a")
    assert browser.address == "/portal/sign-in"
    browser.send("/portal/sign-in", key=make_key())
    assert str(browser.answer.url).endswith("/portal/prompts?after=a")


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_shown_to_a_member(member: Browser, page: str) -> None:
    member.open(f"/portal/{page}")
    assert member.answer.status_code == 200
    assert 'class="notice bad"' not in member.page
    assert "script-src 'self'" in member.answer.headers["content-security-policy"]


def test_numbers_lead_to_the_query_that_gave_them(member: Browser, operator: httpx.Client, tenant: str) -> None:
    operator.put(f"/v1/billing/tenants/{tenant}/budget", json={"usd": "12.50"})
    member.open("/portal/mine")
    assert "$12.50" in member.page
    member.open(f"/portal/query?path=/v1/billing/tenants/{tenant}/entitlement")
    assert "budget_usd" in member.page and "12.5" in member.page


def test_spend_and_its_forecast_are_shown(member: Browser, operator: httpx.Client, tenant: str) -> None:
    for kind, usd in (("input", "1000"), ("output", "2000")):
        price = {"tenant": tenant, "model": "demo", "kind": kind, "usd": usd, "begins": "2020-01-01T00:00:00Z"}
        assert operator.post("/v1/billing/prices", json=price).status_code == 201
    made = operator.post(f"/v1/tenants/{tenant}/keys", json={"name": "of a program", "scopes": ["inference"]}).json()
    sent = [usage(tenant, key=made["id"]), usage(tenant, model="free", read=70, key="revoked-long-ago")]
    assert operator.post("/v1/billing/usage", json=sent).status_code == 200
    member.open("/portal/mine")
    assert "$1.40" in member.page  # 1000 tokens read at $1000 a million, 200 written at $2000
    assert "Forecast" in member.page and "ann" in member.page
    keys = member.page.split('aria-label="Tokens by key"')[1].split("</table>")[0]
    assert f"of a program ({made['hint']})" in keys and "1,000" in keys
    assert "revoked-long-ago" in keys and "70" in keys and made["key"] not in member.page


def test_a_key_is_made_shown_once_and_revoked(member: Browser, platform: Platform) -> None:
    member.send("/portal/mine/keys", name="for a program", **{"scope-inference": "yes"})
    key = member.page.split('id="new-key"')[1].split(">")[1].split("<")[0]
    with platform.client(key) as client:
        assert client.get("/v1/self").json()["scopes"] == ["inference"]
        member.open("/portal/mine")
        assert key not in member.page and "for a program" in member.page
        member.send("/portal/mine/keys/revoke")
        assert client.get("/v1/self").status_code == 401


def test_a_key_without_a_scope_is_not_made(member: Browser) -> None:
    member.send("/portal/mine/keys", name="for a program")
    assert member.answer.status_code == 400 and "at least one scope" in member.page


def test_a_model_answers_without_javascript(member: Browser, target: Target) -> None:
    target.words = ["forty", "two"]
    member.open("/portal/ask")
    member.send("/portal/ask", model="demo", question="How many?")
    assert "forty two" in member.page and "Tokens written" in member.page


def test_an_answer_is_streamed(member: Browser, target: Target) -> None:
    target.words = ["one", "by", "one"]
    token = Forms(member.open("/portal/ask")).fields("/portal/ask")["csrf"]
    body = {"csrf": token, "model": "demo", "question": "How?"}
    headers = {"origin": str(member.client.base_url).rstrip("/")}
    with member.client.stream("POST", "/portal/ask/stream", data=body, headers=headers) as answer:
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert "".join(line.get("text", "") for line in lines).split() == ["one", "by", "one"]
    assert lines[-1]["output"] == 3


def test_the_set_ups_contain_the_key_only_when_asked(browser: Browser, make_key: Callable[..., str]) -> None:
    key = make_key()
    browser.sign_in(key)
    browser.open("/portal/ask")
    assert key not in browser.page
    browser.send("/portal/ask/key")
    assert browser.page.count(key) >= 5


def test_operators_change_shares_and_undo_it(browser: Browser, operator: httpx.Client, target: Target) -> None:
    targets = [{"name": name, "upstream": target.url, "weight": 1} for name in ("left", "right")]
    changed = operator.put("/v1/admin/routes/pair", json={"route": {"model": "pair", "targets": targets}})
    assert changed.status_code == 200, changed.text
    browser.sign_in(OPERATOR)
    page = browser.open("/portal/routes")
    assert "changed by an operator" in page and "left" in page
    browser.send("/portal/routes/weights", model="pair", reason="a test", **{"weight-left": "3"})
    assert browser.address == "/portal/routes", browser.page
    until(lambda: 'value="3.0"' in browser.open("/portal/routes") and "a test" in browser.page)
    browser.send("/portal/routes/undo", model="pair")
    until(lambda: "pair" not in browser.open("/portal/routes"))


def test_a_member_sees_models_and_no_routes(member: Browser) -> None:
    member.open("/portal/routes")
    assert "for operators" in member.page and "demo" in member.page and "upstream" not in member.page


def test_prompts_are_listed_compared_and_labelled(
    member: Browser, platform: Platform, make_key: Callable[..., str]
) -> None:
    name = f"of/{uuid.uuid4().hex[:8]}"
    with platform.client(make_key()) as client:
        for text in ("Hello {{ name }}", "Good day {{ name }}"):
            assert client.post("/v1/prompts", json={"name": name, "prompt": text}).status_code == 201
    member.open("/portal/prompts")
    assert name in member.page
    member.open(f"/portal/prompts/one?name={name}&a=1&b=2")
    assert re.search('class="removed">[^<]*Hello', member.page)
    assert re.search('class="added">[^<]*Good day', member.page)
    member.send("/portal/prompts/label", label="production", version="1")
    assert member.address == "/portal/prompts/one" and "production" in member.page


def test_the_map_shows_what_the_records_state(member: Browser) -> None:
    member.open("/portal/map")
    assert "usage.recorded.v1" in member.page and member.page.count("<path") > 5


def test_now_names_each_service(member: Browser) -> None:
    member.open("/portal/now")
    assert all(title in member.page for title in ("User", "Billing", "Prompt", "AI Router"))
    assert "does not answer" not in member.page


def test_signing_out_ends_the_session(member: Browser) -> None:
    member.send("/portal/sign-out")
    assert "signed out" in member.page
    member.open("/portal/mine")
    assert member.address == "/portal/sign-in"


def test_operators_see_what_runs_and_members_do_not(browser: Browser, make_key: Callable[..., str]) -> None:
    browser.sign_in(OPERATOR)
    page = browser.open("/portal/evidence")
    assert EVIDENCE.images[0].digest in page and "verified by the update" in page and "yours, not examined" in page
    assert ">in force<" in page and ">off<" in page and "cluster.networkPolicies is enforced" in page
    browser.send("/portal/sign-out")
    browser.sign_in(make_key())
    page = browser.open("/portal/evidence")
    assert "for operators" in page and "sha256:" not in page
