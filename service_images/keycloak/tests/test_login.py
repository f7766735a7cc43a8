"""Logins of people through the declared realm: in a browser, with `forge login`, and their end."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kit import migrate
from pydantic import SecretStr
from starlette.testclient import TestClient
from tasks import realm as task
from user.__main__ import UserSettings, create

from cli import login
from components.config.security import PORTAL, REALM, Keycloak, SecondFactor
from components.security import realm
from local.errors import LocalError
from service_images.keycloak_browser import PASSWORD, Browser
from service_images.keycloak_server import Server

pytestmark = [pytest.mark.drill("logins"), pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(1200)]
HERE = "https://testserver"
OPERATOR = "cf-the-operators-key-of-this-test"
SECRET = "p" * 43
Person = dict[str, Any]


@pytest.fixture(scope="module")
def provider(server: Server) -> Server:
    """The declared realm, with Ann, who may edit at acme, and Bob, who is in no group."""
    client = task.Keycloak(server.url, "", lambda: server.secret)
    client.log_in()
    config = Keycloak(tenants=("acme",), second_factor=SecondFactor.OPTIONAL)
    task.settle(client, realm.declared(config, HERE).content, lambda _: SECRET)
    for name, groups in (("ann", ["/tenants/acme/editor"]), ("bob", [])):
        server.admin("POST", f"/{REALM}/users", _user(name, groups), (201, 409))
    return server


def _user(name: str, groups: list[str]) -> dict[str, Any]:
    return {
        "username": name,
        "email": f"{name}@example.com",
        "emailVerified": True,
        "enabled": True,
        "firstName": name,
        "lastName": "Example",
        "groups": groups,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }


@pytest.fixture(scope="module")
def platform(provider: Server, postgres_server: Any) -> Iterator[httpx.Client]:
    """User, with Ann and Bob invited to acme."""
    settings = UserSettings(
        **postgres_server.make_database("user"),
        installation_key=OPERATOR,
        oidc_issuer=f"{provider.url}/realms/{REALM}",
        oidc_client=PORTAL,
        oidc_secret=SecretStr(SECRET),
        oidc_redirect=f"{HERE}/v1/callback",
        oidc_audience="gateway",
        oidc_programs=("forge",),
    )
    migrate.migrate("user", settings.database(pooled=False))
    with TestClient(create(settings), base_url=HERE, follow_redirects=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        operator = {"authorization": f"Bearer {OPERATOR}"}
        client.post("/v1/tenants", json={"id": "acme"}, headers=operator)
        for name in ("ann", "bob"):
            client.post("/v1/tenants/acme/users", json={"email": f"{name}@example.com"}, headers=operator)
        yield client


@pytest.fixture
def browser() -> Iterator[Browser]:
    made = Browser()
    with made.http:
        yield made


def in_browser(platform: httpx.Client, browser: Browser, name: str) -> httpx.Response:
    sent = platform.get("/v1/login", params={"tenant": "acme"})
    back = browser.log_in(sent.headers["location"], name)
    assert back.status_code == 302, back.text
    return platform.get(back.headers["location"].removeprefix(HERE))


def scopes(platform: httpx.Client, key: str) -> set[str]:
    return set(platform.get("/v1/self", headers={"authorization": f"Bearer {key}"}).json()["scopes"])


def test_groups_of_the_realm_are_roles_in_the_tenant(platform: httpx.Client, browser: Browser) -> None:
    ann = in_browser(platform, browser, "ann").json()["key"]
    bob = in_browser(platform, Browser(), "bob").json()["key"]
    assert scopes(platform, ann) - scopes(platform, bob) == {"prompts"}


def test_failed_logins_lock_a_user_for_a_while(provider: Server, platform: httpx.Client) -> None:
    provider.admin("POST", f"/{REALM}/users", _user("eve", []), (201, 409))
    sent = platform.get("/v1/login", params={"tenant": "acme"}).headers["location"]
    for _ in range(10):
        assert Browser().log_in(sent, "eve", "guess").status_code == 200
    assert Browser().log_in(sent, "eve").status_code == 200  # the right password, too, while the user has to wait
    (eve,) = provider.admin("GET", f"/{REALM}/users?username=eve")
    assert provider.admin("GET", f"/{REALM}/attack-detection/brute-force/users/{eve['id']}")["disabled"]


class Gateway:
    """Forwards as the gateway does: /realms to Keycloak, the rest to User."""

    def __init__(self, keycloak: Server, platform: httpx.Client) -> None:
        self._keycloak, self._platform = keycloak, platform

    def post(self, path: str, **more: Any) -> httpx.Response:
        if path.startswith("/realms/"):
            return self._keycloak.http.post(f"{self._keycloak.url}{path}", **more)
        return self._platform.post(path, **more)


@pytest.fixture
def gateway(provider: Server, platform: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path / "home"))
    return Gateway(provider, platform)


def with_forge(gateway: Any, browser: Browser, name: str = "ann") -> login.Session:
    """`forge login`, with a person who opens the address."""
    waiting: list[str] = []

    def person(_: float) -> None:
        if not waiting:
            return
        page = browser.log_in(waiting.pop(), name)
        if "<form" in page.text:  # the person agrees that the program acts for them
            page = browser.send(page, accept="Yes")
        assert page.status_code == 200, page.text

    return login.log_in(gateway, "local", "acme", lambda address, _: waiting.append(address), person)


def test_forge_login_gives_a_key_with_the_persons_rights(
    gateway: Any, platform: httpx.Client, browser: Browser
) -> None:
    session = with_forge(gateway, browser)
    assert "prompts" in scopes(platform, session.key) and "manage" not in scopes(platform, session.key)
    assert login.key(gateway, "local") == session.key
    assert stat.S_IMODE(login.file("local").stat().st_mode) == 0o600


def test_an_old_key_is_replaced_with_the_session(
    gateway: Any, platform: httpx.Client, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = with_forge(gateway, browser)
    monkeypatch.setattr(login, "_EARLY_S", 3600)
    second = login.key(gateway, "local")
    assert second != first.key and scopes(platform, second) == scopes(platform, first.key)
    assert login.key(gateway, "local") not in (first.key, second)  # the refresh token was replaced, too


def test_a_logout_by_the_operator_ends_the_session(
    gateway: Any, provider: Server, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_forge(gateway, browser)
    (ann,) = provider.admin("GET", f"/{REALM}/users?username=ann")
    provider.admin("POST", f"/{REALM}/users/{ann['id']}/logout")
    monkeypatch.setattr(login, "_EARLY_S", 3600)
    with pytest.raises(LocalError, match="your session has ended"):
        login.key(gateway, "local")


def test_an_expired_session_is_reported(
    gateway: Any, provider: Server, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = provider.admin("GET", f"/{REALM}")["ssoSessionMaxLifespan"]
    provider.admin("PUT", f"/{REALM}", {"realm": REALM, "ssoSessionMaxLifespan": 1})
    try:
        with pytest.raises(LocalError):
            with_forge(gateway, browser)
            monkeypatch.setattr(login, "_EARLY_S", 3600)
            while login.key(gateway, "local"):
                pass
    finally:
        provider.admin("PUT", f"/{REALM}", {"realm": REALM, "ssoSessionMaxLifespan": usual})


def test_forge_logout_forgets_the_session_and_ends_it(gateway: Any, browser: Browser) -> None:
    session = with_forge(gateway, browser)
    assert login.log_out(gateway, "local") and not login.log_out(gateway, "local")
    assert not login.file("local").exists() and login.key(gateway, "local") == ""
    path = f"/realms/{REALM}/protocol/openid-connect/token"
    form = {"client_id": "forge", "grant_type": "refresh_token", "refresh_token": session.refresh_token}
    assert gateway.post(path, data=form).json()["error"] == "invalid_grant"


def test_a_token_for_somebody_else_is_refused(platform: httpx.Client, provider: Server) -> None:
    token = provider.http.post(
        f"{provider.url}/realms/master/protocol/openid-connect/token",
        data={"grant_type": "client_credentials", "client_id": "keycloak-admin", "client_secret": provider.secret},
    ).json()["access_token"]
    for made_up in (token, "x.y.z"):
        answer = platform.post("/v1/login/token", json={"token": made_up, "tenant": "acme"})
        assert answer.status_code == 401, answer.text
