"""Logins with a real Keycloak on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from user.__main__ import UserSettings, create

from .keycloak import CLIENT, Keycloak, running

pytestmark = pytest.mark.xdist_group("keycloak")
HERE = "https://testserver"
PEOPLE = (("ann", "ann@example.com", True), ("eve", "ann@example.com", False), ("bob", "bob@example.com", True))


@pytest.fixture(scope="module")
def provider(postgres_server: Any) -> Iterator[Keycloak]:
    with running(PEOPLE, f"{HERE}/v1/callback", postgres_server.make_database("keycloak")) as made:
        yield made


@pytest.fixture
def browser(settings: UserSettings, provider: Keycloak) -> Iterator[httpx.Client]:
    """A browser in front of the service; Ann is invited."""
    more = {
        "oidc_issuer": provider.issuer,
        "oidc_client": CLIENT,
        "oidc_secret": SecretStr(provider.secret),
        "oidc_redirect": f"{HERE}/v1/callback",
    }
    with TestClient(create(settings.model_copy(update=more)), base_url=HERE, follow_redirects=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        operator = {"authorization": f"Bearer {settings.installation_key.get_secret_value()}"}
        client.post("/v1/tenants", json={"id": "acme"}, headers=operator)
        client.post("/v1/tenants/acme/users", json={"email": "Ann@example.com"}, headers=operator)
        yield client


@pytest.fixture
def go(browser: httpx.Client, provider: Keycloak) -> Callable[[str], str]:
    """Log a user in at Keycloak. Returns the address to which Keycloak redirects the browser."""

    def log_in(name: str) -> str:
        sent = browser.get("/v1/login", params={"tenant": "acme"})
        assert sent.status_code == 302, sent.text
        return provider.log_in(sent.headers["location"], name).removeprefix(HERE)

    return log_in


def test_an_invited_user_gets_an_expiring_key(browser: httpx.Client, go: Callable[[str], str]) -> None:
    made = browser.get(go("ann")).json()
    assert made["tenant"] == "acme" and made["expires"]
    asked = browser.get("/v1/self", headers={"authorization": f"Bearer {made['key']}"})
    assert asked.json()["user"] == made["user"]


def test_the_same_identity_is_the_same_user(browser: httpx.Client, go: Callable[[str], str]) -> None:
    assert browser.get(go("ann")).json()["user"] == browser.get(go("ann")).json()["user"]


@pytest.mark.parametrize("name", ["eve", "bob"], ids=["address-not-verified", "not-invited"])
def test_other_callers_are_refused(browser: httpx.Client, go: Callable[[str], str], name: str) -> None:
    assert browser.get(go(name)).status_code == 403


def test_an_address_is_bound_to_one_identity(
    browser: httpx.Client, go: Callable[[str], str], provider: Keycloak
) -> None:
    browser.get(go("ann"))
    provider.add(("dan", "ann@example.com", True))
    assert browser.get(go("dan")).status_code == 403


def test_a_login_answer_works_only_in_the_browser_that_started_it(
    browser: httpx.Client, go: Callable[[str], str]
) -> None:
    back = go("ann")
    browser.cookies.clear()
    assert browser.get(back).status_code == 401


def test_an_answer_to_another_login_is_refused(browser: httpx.Client, go: Callable[[str], str]) -> None:
    back = go("ann")
    go("ann")
    assert browser.get(back).status_code == 401


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=access_denied"])
def test_a_made_up_answer_is_refused(browser: httpx.Client, query: str) -> None:
    browser.get("/v1/login")
    assert browser.get(f"/v1/callback{query}").status_code == 401


def test_an_unavailable_provider_is_reported(settings: UserSettings) -> None:
    more: dict[str, Any] = {"oidc_issuer": "http://127.0.0.1:9", "oidc_secret": SecretStr("x")}
    with TestClient(create(settings.model_copy(update=more))) as client:
        assert client.get("/v1/login").status_code == 503


def test_the_end_of_a_login_is_keycloaks_own_page(browser: httpx.Client, provider: Keycloak) -> None:
    answer = browser.get("/v1/login/end")
    assert answer.headers["location"].startswith(f"{provider.issuer}/protocol/openid-connect/logout?")
    assert httpx.get(answer.headers["location"], trust_env=False).status_code == 200
