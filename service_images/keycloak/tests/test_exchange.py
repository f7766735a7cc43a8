"""Programs that act for people: they exchange people's access tokens (RFC 8693), and User gives them keys."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from kit import migrate
from pydantic import SecretStr
from starlette.testclient import TestClient
from tasks import realm as task
from user.__main__ import UserSettings, create

from components.config.security import PORTAL, REALM
from service_images.keycloak_browser import PASSWORD, Browser
from service_images.keycloak_server import Server

from .upstream import declared

pytestmark = [pytest.mark.drill("logins"), pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(1200)]
HERE = "https://testserver"
OPERATOR = "cf-the-operators-key-of-this-test"
SECRET = "p" * 43
BACK = "https://notes.example.com/callback"
CONFIG: dict[str, Any] = {
    "tenants": ("acme",),
    "machines": ("reports", "idle"),
    "secondFactor": "optional",
    "applications": (
        {"name": "notes", "redirects": (BACK,)},
        {"name": "wiki", "redirects": ("https://wiki.example.com/callback",)},
        {
            "name": "handbook",
            "protocol": "saml",
            "entityId": "urn:handbook",
            "redirects": ("https://handbook.example.com/acs",),
        },
    ),
    "delegates": ({"machine": "reports", "applications": ("notes",), "scopes": ("inference", "prompts", "audit")},),
}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


@pytest.fixture(scope="module")
def provider(server: Server) -> Iterator[Server]:
    """The declared realm. Olga owns acme, and Mia is a member."""
    client = task.Keycloak(server.url, "", lambda: server.secret)
    client.log_in()
    task.settle(client, declared(server, HERE, **CONFIG), lambda _: SECRET)
    for name, groups in (("olga", ["/tenants/acme/owner"]), ("mia", [])):
        body = {
            "username": name,
            "email": f"{name}@example.com",
            "emailVerified": True,
            "enabled": True,
            "firstName": name,
            "lastName": "Example",
            "groups": groups,
            "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
        }
        server.admin("POST", f"/{REALM}/users", body, (201, 409))
    yield server
    task.settle(client, declared(server, HERE, tenants=("acme",), secondFactor="optional"), lambda _: SECRET)


@pytest.fixture(scope="module")
def platform(provider: Server, postgres_server: Any) -> Iterator[httpx.Client]:
    settings = UserSettings(
        **postgres_server.make_database("user"),
        installation_key=SecretStr(OPERATOR),
        oidc_issuer=f"{provider.url}/realms/{REALM}",
        oidc_client=PORTAL,
        oidc_secret=SecretStr(SECRET),
        oidc_redirect=f"{HERE}/v1/callback",
        oidc_audience="gateway",
        oidc_programs=("forge",),
        oidc_delegates={"reports": ("inference", "prompts", "audit")},
    )
    migrate.migrate("user", settings.database(pooled=False))
    with TestClient(create(settings), base_url=HERE, follow_redirects=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        operator = {"authorization": f"Bearer {OPERATOR}"}
        assert client.post("/v1/tenants", json={"id": "acme"}, headers=operator).status_code == 201
        for name in ("olga", "mia"):
            client.post("/v1/tenants/acme/users", json={"email": f"{name}@example.com"}, headers=operator)
        yield client


Tokens = Callable[..., str]


@pytest.fixture
def given(provider: Server) -> Tokens:
    """Function that logs a person in at an application. Returns the application's access token."""

    def log_in(name: str, application: str = "notes") -> str:
        verifier, back = secrets.token_urlsafe(48), f"https://{application}.example.com/callback"
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": application,
            "redirect_uri": back,
            "scope": "openid",
            "state": "x",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        browser = Browser()
        with browser.http:
            page = browser.log_in(
                f"{provider.url}/realms/{REALM}/protocol/openid-connect/auth?{urlencode(query)}", name
            )
        code = parse_qs(urlsplit(page.headers["location"]).query)["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": back, "code_verifier": verifier}
        return asked(provider, application, form).json()["access_token"]

    return log_in


def asked(provider: Server, client: str, form: dict[str, str], secret: str = SECRET) -> httpx.Response:
    url = f"{provider.url}/realms/{REALM}/protocol/openid-connect/token"
    return provider.http.post(url, data={"client_id": client, "client_secret": secret, **form})


def exchanged(
    provider: Server, token: str, client: str = "reports", audience: str = "gateway", **more: str
) -> httpx.Response:
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS, "audience": audience}
    return asked(provider, client, {**form, **more})


def claims(token: str) -> dict[str, Any]:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def key(platform: httpx.Client, token: str) -> httpx.Response:
    return platform.post("/v1/login/token", json={"token": token, "tenant": "acme"})


def test_an_exchanged_token_is_for_the_platform_and_names_who_acts(provider: Server, given: Tokens) -> None:
    before = claims(given("olga"))
    after = claims(exchanged(provider, given("olga")).json()["access_token"])
    assert (before["azp"], set(before["aud"])) == ("notes", {"notes", "reports"})
    assert (after["azp"], after["aud"], after["sub"]) == ("reports", "gateway", before["sub"])


def test_a_delegates_key_acts_as_the_person_with_the_rights_of_both(
    provider: Server, platform: httpx.Client, given: Tokens
) -> None:
    olga = key(platform, exchanged(provider, given("olga")).json()["access_token"]).json()
    mia = key(platform, exchanged(provider, given("mia")).json()["access_token"]).json()
    assert set(olga["scopes"]) == {"inference", "prompts", "audit"}  # an owner has more
    assert mia["scopes"] == ["inference"]  # the delegate may more
    who = platform.get("/v1/self", headers={"authorization": f"Bearer {mia['key']}"}).json()
    assert (who["user"], who["tenant"], who["client"]) == (mia["user"], "acme", "reports")


def test_the_applications_own_token_gives_no_key(provider: Server, platform: httpx.Client, given: Tokens) -> None:
    assert key(platform, given("olga")).status_code == 401


@pytest.mark.parametrize("client", ["idle", "notes", "portal"])
def test_a_client_that_is_not_declared_for_it_is_refused(provider: Server, given: Tokens, client: str) -> None:
    assert "not enabled" in exchanged(provider, given("olga"), client).json()["error_description"]


def test_a_token_of_an_application_that_does_not_name_the_delegate_is_refused(provider: Server, given: Tokens) -> None:
    answer = exchanged(provider, given("olga", "wiki"))
    assert answer.status_code in (400, 403) and "access_token" not in answer.json(), answer.text


def test_nothing_but_an_access_token_for_the_platform_comes_out(provider: Server, given: Tokens) -> None:
    token = given("olga")
    assert exchanged(provider, token, audience="notes").status_code == 400
    later = exchanged(provider, token, requested_token_type="urn:ietf:params:oauth:token-type:refresh_token")
    assert later.status_code == 400
    assert "refresh_token" not in exchanged(provider, token).json()
    assert asked(provider, "reports", {"grant_type": EXCHANGE}, secret="guessed").status_code == 401


def test_a_machines_own_token_is_nobodys(provider: Server, platform: httpx.Client) -> None:
    own = asked(provider, "reports", {"grant_type": "client_credentials"}).json()["access_token"]
    assert key(platform, own).status_code == 403


def test_the_end_of_the_session_ends_it(provider: Server, platform: httpx.Client, given: Tokens) -> None:
    token = given("mia")
    acting = exchanged(provider, token).json()["access_token"]
    made = key(platform, acting).json()
    (mia,) = provider.admin("GET", f"/{REALM}/users?username=mia&exact=true")
    provider.admin("POST", f"/{REALM}/users/{mia['id']}/logout")
    assert exchanged(provider, token).status_code == 400
    assert key(platform, acting).status_code == 401
    assert made["expires"] is not None and claims(acting)["exp"] - claims(acting)["iat"] <= 300


def test_an_application_with_saml_gets_a_signed_assertion_with_the_groups(provider: Server) -> None:
    browser = Browser()
    with browser.http:
        page = browser.log_in(_request(provider), "olga")
    assert page.status_code == 200 and 'action="https://handbook.example.com/acs"' in page.text, page.text
    assertion = base64.b64decode(page.text.partition('name="SAMLResponse" value="')[2].partition('"')[0]).decode()
    assert "/tenants/acme/owner" in assertion and "olga@example.com" in assertion
    assert "<saml:Audience>urn:handbook</saml:Audience>" in assertion and assertion.count(":SignatureValue>") == 4


def test_an_assertion_goes_to_no_other_address(provider: Server) -> None:
    browser = Browser()
    with browser.http:
        assert browser.open("GET", _request(provider, "https://evil.example.com/acs")).status_code == 400


def _request(provider: Server, consumer: str = "https://handbook.example.com/acs") -> str:
    """Address with a request of the handbook, by the redirect binding."""
    url = f"{provider.url}/realms/{REALM}/protocol/saml"
    names = 'xmlns:p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:a="urn:oasis:names:tc:SAML:2.0:assertion"'
    text = (
        f'<p:AuthnRequest {names} ID="x{secrets.token_hex(8)}" Version="2.0" IssueInstant="2026-01-01T00:00:00Z" '
        f'Destination="{url}" AssertionConsumerServiceURL="{consumer}">'
        "<a:Issuer>urn:handbook</a:Issuer></p:AuthnRequest>"
    )
    packed = zlib.compressobj(wbits=-15)
    content = base64.b64encode(packed.compress(text.encode()) + packed.flush()).decode()
    return f"{url}?{urlencode({'SAMLRequest': content})}"
