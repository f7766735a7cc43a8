"""What attackers, faults and large numbers of rows do to the pages."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import psycopg
import pytest

from service_images.portal.tests.conftest import Browser, Forms
from service_images.portal.tests.running_platform import OPERATOR, Platform
from service_images.router.tests.conftest import Target, until

ATTACK = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'"
ESCAPED = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#34;&#39;"


def _harmless(page: str) -> None:
    assert ESCAPED in page
    assert "<script>" not in page and "<img src=x" not in page


def test_a_tenants_name_is_text(member: Browser, operator: httpx.Client, tenant: str) -> None:
    assert operator.put(f"/v1/tenants/{tenant}", json={"name": ATTACK}).status_code == 200
    _harmless(member.open("/portal/mine"))


def test_the_name_of_a_key_is_text(member: Browser) -> None:
    _harmless(member.send("/portal/mine/keys", name=ATTACK, **{"scope-inference": "yes"}))
    _harmless(member.open("/portal/mine"))


def test_a_models_answer_and_the_question_are_text(member: Browser, target: Target) -> None:
    target.words = [ATTACK]
    member.open("/portal/ask")
    page = member.send("/portal/ask", model="demo", question=ATTACK, rule=ATTACK)
    _harmless(page)
    assert page.count(ESCAPED) == 3


def test_a_prompt_and_what_an_address_names_are_text(
    member: Browser, platform: Platform, make_key: Callable[..., str]
) -> None:
    with platform.client(make_key()) as client:
        made = client.post("/v1/prompts", json={"name": "greeting", "prompt": ATTACK, "message": ATTACK})
        assert made.status_code == 201, made.text
    _harmless(member.open("/portal/prompts/one?name=greeting"))
    _harmless(member.open(f"/portal/prompts/one?{httpx.QueryParams(name=ATTACK)}"))


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["no-origin", "another-origin", "no-page", "another-site"],
)
def test_a_form_of_another_site_does_nothing(member: Browser, headers: dict[str, str]) -> None:
    token = Forms(member.page).fields("/portal/mine/keys")["csrf"]
    if "sec-fetch-site" in headers:
        headers = {**headers, "origin": str(member.client.base_url).rstrip("/")}
    body = {"csrf": token, "name": "stolen", "scope-inference": "yes"}
    answer = member.client.post("/portal/mine/keys", data=body, headers=headers)
    assert answer.status_code == 403
    assert "stolen" not in member.open("/portal/mine")


@pytest.mark.parametrize("token", ["", "x" * 32], ids=["none", "wrong"])
def test_a_form_without_the_sessions_token_does_nothing(member: Browser, token: str) -> None:
    member.send("/portal/mine/keys", csrf=token, name="stolen", **{"scope-inference": "yes"})
    assert member.answer.status_code == 403
    assert "stolen" not in member.open("/portal/mine")


def test_another_sessions_token_does_nothing(member: Browser, platform: Platform, make_key: Callable[..., str]) -> None:
    with platform.client() as client:
        other = Browser(client)
        other.sign_in(make_key())
        token = Forms(other.page).fields("/portal/mine/keys")["csrf"]
    member.send("/portal/mine/keys", csrf=token, name="stolen", **{"scope-inference": "yes"})
    assert member.answer.status_code == 403


def test_signing_in_from_another_site_is_refused(browser: Browser, make_key: Callable[..., str]) -> None:
    answer = browser.client.post(
        "/portal/sign-in", data={"key": make_key()}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403 and "set-cookie" not in answer.headers


def test_another_tenants_data_stays_there(member: Browser, operator: httpx.Client) -> None:
    operator.post("/v1/tenants", json={"id": "somebody-else", "name": "Secret name"})
    made = operator.post("/v1/tenants/somebody-else/keys", json={"name": "theirs"}).json()
    page = member.open("/portal/query?path=/v1/tenants/somebody-else")
    assert "Secret name" not in page and "does not exist" in page
    member.make_up("/portal/mine/keys/revoke", key=made["id"])
    assert member.answer.status_code == 404
    keys = operator.get("/v1/tenants/somebody-else/keys").json()
    assert [key["revoked"] for key in keys if key["id"] == made["id"]] == [None]


def test_a_member_cannot_act_on_routes(member: Browser) -> None:
    for action in ("undo", "canary", "weights"):
        member.open("/portal/mine")
        member.make_up(f"/portal/routes/{action}", model="demo", course="promoted", **{"weight-demo": "1"})
        assert member.answer.status_code == 403, action


def test_a_key_that_was_revoked_ends_the_session(
    browser: Browser, operator: httpx.Client, tenant: str, make_key: Callable[..., str]
) -> None:
    browser.sign_in(make_key())
    for key in operator.get(f"/v1/tenants/{tenant}/keys").json():
        operator.delete(f"/v1/tenants/{tenant}/keys/{key['id']}")
    browser.open("/portal/mine")
    assert browser.address == "/portal/sign-in" and "session has ended" in browser.page


def test_a_forged_cookie_is_no_session(browser: Browser) -> None:
    browser.client.cookies.set("__Host-cogniforge-portal", "forged", domain="localhost.local", path="/")
    browser.open("/portal/mine")
    assert browser.address == "/portal/sign-in"


def test_an_unknown_key_is_refused(browser: Browser) -> None:
    browser.sign_in("cf-unknown")
    assert browser.answer.status_code == 401 and "unknown, revoked or expired" in browser.page


@pytest.mark.parametrize("to", ["https://evil.example/", "//evil.example", "/\\evil.example", "/v1/login"])
def test_signing_in_leads_to_pages_only(browser: Browser, make_key: Callable[..., str], to: str) -> None:
    browser.open("/portal/sign-in")
    browser.send("/portal/sign-in", key=make_key(), to=to)
    assert browser.address == "/portal/mine" and str(browser.answer.url).startswith(str(browser.client.base_url))


@pytest.mark.parametrize(
    "name", [b"%00", b"a%00b", b"%ED%A0%80", b"%FF"], ids=["nul", "inside", "surrogate", "not-utf-8"]
)
def test_texts_that_nothing_can_store_are_refused(member: Browser, name: bytes) -> None:
    token = Forms(member.page).fields("/portal/mine/keys")["csrf"]
    headers = {
        "origin": str(member.client.base_url).rstrip("/"),
        "content-type": "application/x-www-form-urlencoded",
    }
    body = b"csrf=" + token.encode() + b"&scope-inference=yes&name=" + name
    answer = member.client.post("/portal/mine/keys", content=body, headers=headers)
    assert answer.status_code == 400 and "text/html" in answer.headers["content-type"]


def test_a_service_that_is_away_is_named_and_the_rest_stands(member: Browser, platform: Platform) -> None:
    with platform.without("billing"):
        page = member.open("/portal/mine")
        assert member.answer.status_code == 200
        assert "Billing does not answer" in page and "Keys of the tenant" in page
        assert "does not answer" in member.open("/portal/now")
    until(lambda: "does not answer" not in member.open("/portal/mine"))


def test_ten_thousand_keys_are_paged(member: Browser, platform: Platform, tenant: str) -> None:
    with psycopg.connect(platform.database("user"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO keys (id, tenant, name, digest, hint, scopes) SELECT md5(n::text || %s), %s, 'key ' || n,"
            " md5(n::text || %s) || md5(n::text), 'cf-…', '{inference}' FROM generate_series(1, 10000) AS n",
            (tenant, tenant, tenant),
        )
    page = member.open("/portal/mine?page=3")
    assert "Page 3 of 20, 1,000 in all" in page and "lists the newest 1,000" in page
    assert page.count("Revoke</button>") == 50 and len(page.encode()) < 200_000
    assert "Page 20 of 20" in member.open("/portal/mine?page=100000")


def test_what_nobody_asked_for_is_a_page_too(member: Browser) -> None:
    for path, status in (("/portal/unknown", 404), ("/portal/mine?page=0", 400), ("/portal/mine?other=1", 400)):
        page = member.open(path)
        assert member.answer.status_code == status and "That did not work" in page


def test_a_query_reads_the_api_and_nothing_else(member: Browser) -> None:
    for path in ("https://evil.example", "/portal/mine", "/v1/login?tenant=a", "/v1/../x", "/v1/callback"):
        member.open(f"/portal/query?{httpx.QueryParams(path=path)}")
        assert member.answer.status_code == 400, path


def test_the_operators_key_is_in_no_page(browser: Browser) -> None:
    browser.sign_in(OPERATOR)
    for page in ("mine", "ask", "routes", "prompts", "now", "map", "query?path=/v1/self"):
        assert OPERATOR not in browser.open(f"/portal/{page}")
