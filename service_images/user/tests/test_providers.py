"""Logins with different identity providers: notations of the issuer, and changes of keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from user import login
from user.__main__ import UserSettings, create

from service_images.oidc_provider import CLIENT, Provider

HERE = "https://testserver"


@pytest.fixture
def browser(settings: UserSettings, acme: httpx.Client) -> Iterator[Callable[..., httpx.Client]]:
    """A browser in front of the service, with a provider of this issuer; Ann is invited."""
    assert acme.post("/v1/tenants/acme/users", json={"email": "ann@example.com"}).status_code == 201
    opened: list[TestClient] = []

    def visit(issuer: str, **more: Any) -> httpx.Client:
        more |= {"oidc_issuer": issuer, "oidc_client": CLIENT, "oidc_secret": SecretStr("x")}
        more |= {"oidc_redirect": f"{HERE}/v1/callback"}
        client = TestClient(create(settings.model_copy(update=more)), base_url=HERE, follow_redirects=False)
        opened.append(client)
        return client.__enter__()

    yield visit
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def provider() -> Iterator[Callable[..., Provider]]:
    made: list[Provider] = []

    def make(*arguments: Any, **more: Any) -> Provider:
        made.append(Provider(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def log_in(client: httpx.Client, provider: Provider, tenant: str = "acme") -> httpx.Response:
    sent = client.get("/v1/login", params={"tenant": tenant} if tenant else {})
    assert sent.status_code == 302, sent.text
    return client.get(provider.log_in(sent.headers["location"], "ann@example.com"))


@pytest.mark.parametrize(
    ("end", "leads_to"),
    [
        ("https://login.example.com/out", "https://login.example.com/out?client_id=cogniforge"),
        ("https://login.example.com/out?realm=a", "https://login.example.com/out?realm=a&client_id=cogniforge"),
    ],
)
def test_the_end_of_a_login_is_at_the_provider(
    browser: Callable[..., httpx.Client], provider: Callable[..., Provider], end: str, leads_to: str
) -> None:
    answer = browser(provider(end=end).url).get("/v1/login/end")
    assert (answer.status_code, answer.headers["location"]) == (302, leads_to)


def test_a_provider_that_ends_no_logins_is_reported(
    browser: Callable[..., httpx.Client], provider: Callable[..., Provider], acme: httpx.Client
) -> None:
    answer = browser(provider().url).get("/v1/login/end")
    assert answer.status_code == 404 and "no page that ends logins" in answer.json()["error"]["message"]
    assert acme.get("/v1/login/end").status_code == 404  # no provider at all


@pytest.mark.parametrize(("email", "arrives"), [("ann@example.com", True), ("bob@example.com", False)])
def test_a_login_that_began_on_a_page_ends_there(
    browser: Callable[..., httpx.Client], provider: Callable[..., Provider], email: str, arrives: bool
) -> None:
    made = provider()
    client = browser(made.url, oidc_arrival="/pages/arrive")
    sent = client.get("/v1/login", params={"tenant": "acme", "arrive": "true"})
    back = client.get(made.log_in(sent.headers["location"], email))
    assert (back.status_code, back.headers["location"], back.content) == (303, "/pages/arrive", b"")
    cookie = back.headers.get("set-cookie", "").lower()
    assert bool(cookie) == arrives
    expected = ("httponly", "secure", "path=/", "max-age=60") if arrives else ()
    assert [flag for flag in expected if f"; {flag}" not in cookie] == [], cookie


@pytest.mark.parametrize("configured", ["", "/"], ids=["configured-without", "configured-with"])
@pytest.mark.parametrize("own", ["", "/"], ids=["provider-without", "provider-with"])
def test_an_issuer_may_end_with_a_slash(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider], own: str, configured: str
) -> None:
    made = provider(own)
    answer = log_in(browser(made.url + configured), made)
    assert answer.status_code == 200, answer.text


def test_the_same_identity_is_the_same_user_however_the_issuer_is_written(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider]
) -> None:
    made = provider("/")
    first, second = (log_in(browser(made.url + end), made).json() for end in ("", "/"))
    assert first["user"] == second["user"]


def test_another_issuers_token_is_refused(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider]
) -> None:
    made = provider()
    client = browser(made.url)
    assert log_in(client, made).status_code == 200
    made.issuer += "/other"
    assert log_in(client, made).status_code == 401


def test_a_login_works_at_once_after_the_provider_has_changed_its_key(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = provider()
    client = browser(made.url)
    assert log_in(client, made).status_code == 200
    monkeypatch.setattr(login, "_AGAIN_S", 0)
    made.rotate()
    answer = log_in(client, made)
    assert answer.status_code == 200, answer.text
    assert made.asked["/keys"] == 2


def test_unknown_keys_do_not_flood_the_identity_provider(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "_AGAIN_S", 3600)
    made, stranger = provider(), provider()
    client = browser(made.url)
    monkeypatch.setattr(made, "sign", stranger.sign)
    assert [log_in(client, made).status_code for _ in range(3)] == [401] * 3
    assert made.asked["/keys"] == 1


# --- logins and their rights ----------------------------------------------------------------------


def test_an_invitation_holds_for_a_login_to_the_tenant_that_sent_it(
    browser: Callable[[str], httpx.Client], provider: Callable[..., Provider], acme: httpx.Client
) -> None:
    acme.post("/v1/tenants", json={"id": "eve"})
    acme.post("/v1/tenants/eve/users", json={"email": "ann@example.com"})
    made = provider()
    client = browser(made.url)
    assert log_in(client, made, "").json()["error"]["code"] == "tenant_needed"
    assert log_in(client, made, "acme").json()["tenant"] == "acme"
    assert log_in(client, made, "").json()["tenant"] == "acme", "who is known need not name it"
    assert log_in(client, made, "nobody").status_code == 403
    assert log_in(client, made, "eve").json()["tenant"] == "eve", "only since it was asked for"
    assert log_in(client, made, "").json()["error"]["code"] == "tenant_needed"


@pytest.mark.parametrize(
    ("role", "has", "lacks"),
    [
        (None, "inference", "prompts"),
        ("member", "inference", "manage"),
        ("viewer", "retrieval", "prompts"),
        ("editor", "prompts", "manage"),
        ("admin", "manage", "impersonate"),
        ("owner", "audit", "admin"),
    ],
)
def test_a_login_may_do_what_the_users_role_allows(
    browser: Callable[[str], httpx.Client],
    provider: Callable[..., Provider],
    acme: httpx.Client,
    role: str | None,
    has: str,
    lacks: str,
) -> None:
    made = provider()
    client = browser(made.url)
    user = acme.get("/v1/tenants/acme/users").json()[0]["id"]
    if role:
        assert acme.put(f"/v1/tenants/acme/users/{user}/roles/{role}").status_code == 204
    scopes = log_in(client, made).json()["scopes"]
    assert has in scopes and lacks not in scopes
