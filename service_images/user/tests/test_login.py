"""Logins with a real OpenID Connect provider on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from oidc_provider_mock import User, run_server_in_thread
from pydantic import SecretStr
from starlette.testclient import TestClient
from user.__main__ import UserSettings, create

PEOPLE = (
    User(sub="1", claims={"email": "ann@example.com", "email_verified": True}),
    User(sub="2", claims={"email": "ann@example.com", "email_verified": False}),
    User(sub="3", claims={"email": "bob@example.com", "email_verified": True}),
)
HERE = "https://testserver"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with run_server_in_thread(user_claims=PEOPLE) as provider:
        yield f"http://127.0.0.1:{provider.server_port}"


@pytest.fixture
def browser(settings: UserSettings, issuer: str) -> Iterator[httpx.Client]:
    """A browser before the service; ann is invited."""
    more = {"oidc_issuer": issuer, "oidc_secret": SecretStr("of this test"), "oidc_redirect": f"{HERE}/v1/callback"}
    with TestClient(create(settings.model_copy(update=more)), base_url=HERE, follow_redirects=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        operator = {"authorization": f"Bearer {settings.installation_key.get_secret_value()}"}
        client.post("/v1/tenants", json={"id": "acme"}, headers=operator)
        client.post("/v1/tenants/acme/users", json={"email": "Ann@example.com"}, headers=operator)
        yield client


def go(browser: httpx.Client, subject: str) -> str:
    """Log in at the provider; returns where it sends the browser back to."""
    sent = browser.get("/v1/login")
    assert sent.status_code == 302, sent.text
    with httpx.Client(trust_env=False) as outside:
        answer = outside.post(sent.headers["location"], data={"sub": subject})
    return answer.headers["location"].removeprefix(HERE)


def test_who_was_invited_gets_a_key_that_ends(browser: httpx.Client) -> None:
    made = browser.get(go(browser, "1")).json()
    assert made["tenant"] == "acme" and made["expires"]
    asked = browser.get("/v1/self", headers={"authorization": f"Bearer {made['key']}"})
    assert asked.json()["user"] == made["user"]


def test_the_same_identity_is_the_same_user(browser: httpx.Client) -> None:
    assert browser.get(go(browser, "1")).json()["user"] == browser.get(go(browser, "1")).json()["user"]


@pytest.mark.parametrize("subject", ["2", "3"], ids=["address-not-verified", "not-invited"])
def test_nobody_else_gets_in(browser: httpx.Client, subject: str) -> None:
    assert browser.get(go(browser, subject)).status_code == 403


def test_an_address_is_bound_to_one_identity(browser: httpx.Client, issuer: str) -> None:
    browser.get(go(browser, "1"))
    other = httpx.put(f"{issuer}/users/4", json={"email": "ann@example.com", "email_verified": True}, trust_env=False)
    assert other.status_code < 300
    assert browser.get(go(browser, "4")).status_code == 403


def test_an_answer_works_only_in_the_browser_that_asked(browser: httpx.Client) -> None:
    back = go(browser, "1")
    browser.cookies.clear()
    assert browser.get(back).status_code == 401


def test_an_answer_to_another_login_is_refused(browser: httpx.Client) -> None:
    back = go(browser, "1")
    go(browser, "1")
    assert browser.get(back).status_code == 401


@pytest.mark.parametrize("query", ["", "?code=x&state=y", "?error=access_denied"])
def test_a_made_up_answer_is_refused(browser: httpx.Client, query: str) -> None:
    browser.get("/v1/login")
    assert browser.get(f"/v1/callback{query}").status_code == 401


def test_a_provider_that_is_away_is_said_to_be(settings: UserSettings) -> None:
    more: dict[str, Any] = {"oidc_issuer": "http://127.0.0.1:9", "oidc_secret": SecretStr("x")}
    with TestClient(create(settings.model_copy(update=more))) as client:
        assert client.get("/v1/login").status_code == 503
