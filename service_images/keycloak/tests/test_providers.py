"""People of other identity providers: what they become, and what they cannot become."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from kit import migrate
from pydantic import SecretStr
from starlette.testclient import TestClient
from tasks import realm as task
from tasks.common import Problem
from user.__main__ import UserSettings, create

from components.config.security import PORTAL, REALM
from service_images.keycloak_browser import PASSWORD, Browser
from service_images.keycloak_server import Server
from service_images.oidc_provider import CLIENT, Provider

from .upstream import GRANTS, OIDC, OVER_OIDC, OVER_SAML, SAML, Upstream, declared

pytestmark = [pytest.mark.drill("logins"), pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(1200)]
HERE = "https://testserver"
OPERATOR = "cf-the-operators-key-of-this-test"
SECRET = "p" * 43
WAYS = pytest.mark.parametrize("provider", [OIDC, SAML])


def config(*, trust: bool = True, **own: Any) -> dict[str, Any]:
    """Both ways to the same provider."""
    ways = ({"name": OIDC, "oidc": OVER_OIDC}, {"name": SAML, "saml": OVER_SAML})
    return {
        "tenants": ("acme",),
        "secondFactor": "optional",
        "providers": [{**way, "trustEmail": trust, "grants": GRANTS, **own} for way in ways],
    }


class Realm:
    """The platform's realm, and how it is settled."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = task.Keycloak(server.url, "", lambda: server.secret)
        self.client.log_in()

    def settle(self, places: dict[str, str] | None = None, **wanted: Any) -> list[str]:
        made = task.settle(self.client, declared(self.server, HERE, places, **wanted), lambda _: SECRET)
        return [str(one) for one in made]

    def differs(self, places: dict[str, str] | None = None, **wanted: Any) -> list[str]:
        made = task.differences(self.client, declared(self.server, HERE, places, **wanted), lambda _: SECRET)
        return [str(one) for one in made]

    def person(self, name: str) -> dict[str, Any]:
        (found,) = self.server.admin("GET", f"/{REALM}/users?email={name}@example.com&exact=true")
        return found

    def roles(self, name: str) -> set[str]:
        path = f"/{REALM}/users/{self.person(name)['id']}"
        groups = {one["path"] for one in self.server.admin("GET", f"{path}/groups")}
        return groups | {one["name"] for one in self.server.admin("GET", f"{path}/role-mappings/realm")} - {
            f"default-roles-{REALM}"
        }


@pytest.fixture(scope="module")
def realm(server: Server) -> Iterator[Realm]:
    made = Realm(server)
    yield made
    made.settle(tenants=("acme",), secondFactor="optional")


@pytest.fixture(scope="module")
def upstream(realm: Realm) -> Upstream:
    made = Upstream(realm.server)
    realm.settle(**config())
    made.takes_saml()
    return made


@pytest.fixture(scope="module")
def platform(realm: Realm, upstream: Upstream, postgres_server: Any) -> Iterator[httpx.Client]:
    settings = UserSettings(
        **postgres_server.make_database("user"),
        installation_key=SecretStr(OPERATOR),
        oidc_issuer=f"{realm.server.url}/realms/{REALM}",
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
        client.headers["authorization"] = f"Bearer {OPERATOR}"
        assert client.post("/v1/tenants", json={"id": "acme"}).status_code == 201
        yield client


@pytest.fixture
def trusted(realm: Realm) -> None:
    realm.settle(**config())


@pytest.fixture
def untrusted(realm: Realm) -> Iterator[None]:
    realm.settle(**config(trust=False))
    yield
    realm.settle(**config())


@pytest.fixture
def browser() -> Iterator[Browser]:
    made = Browser()
    with made.http:
        yield made


def address(platform: httpx.Client) -> str:
    return platform.get("/v1/login", params={"tenant": "acme"}).headers["location"]


def invited(platform: httpx.Client, name: str) -> None:
    answer = platform.post("/v1/tenants/acme/users", json={"email": f"{name}@example.com"})
    assert answer.status_code in (201, 409), answer.text


def key_of(platform: httpx.Client, back: httpx.Response) -> httpx.Response:
    """User's answer to the callback."""
    assert back.status_code == 302, back.text
    answer = platform.get(back.headers["location"].removeprefix(HERE))
    platform.cookies.clear()
    return answer


@WAYS
def test_a_first_login_makes_an_account_with_the_roles_of_the_providers_groups(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, browser: Browser, provider: str
) -> None:
    name = f"ann-{provider}"
    upstream.person(name, "editors")
    invited(platform, name)
    made = key_of(platform, browser.through(address(platform), provider, name))
    assert made.status_code == 200, made.text
    assert "prompts" in made.json()["scopes"] and "manage" not in made.json()["scopes"]
    assert realm.roles(name) == {"/tenants/acme/editor"}


@WAYS
def test_a_group_that_is_taken_away_ends_with_the_next_login(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, browser: Browser, provider: str
) -> None:
    name = f"bob-{provider}"
    upstream.person(name, "editors", "operators")
    invited(platform, name)
    key_of(platform, browser.through(address(platform), provider, name))
    assert realm.roles(name) == {"/tenants/acme/editor", "operator"}
    upstream.leave(name, "editors")
    upstream.leave(name, "operators")
    made = key_of(platform, Browser().through(address(platform), provider, name))
    assert made.status_code == 200 and "prompts" not in made.json()["scopes"]
    assert realm.roles(name) == set()


def test_a_person_who_says_nothing_of_an_address_that_the_provider_has_not_verified_gets_nothing(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, browser: Browser
) -> None:
    """A trusted provider that does not vouch for one address: the account has none that counts."""
    upstream.person("carl", "editors", verified=False)
    invited(platform, "carl")
    answer = key_of(platform, browser.through(address(platform), OIDC, "carl"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_invited")
    assert not realm.person("carl")["emailVerified"]


@pytest.fixture
def dora(realm: Realm, platform: httpx.Client) -> str:
    """Somebody with an account at the platform, who owns the tenant."""
    groups = ["/tenants/acme/owner"]
    body = {
        "username": "dora@example.com",
        "email": "dora@example.com",
        "emailVerified": True,
        "enabled": True,
        "firstName": "Dora",
        "lastName": "Example",
        "groups": groups,
        "credentials": [{"type": "password", "value": PASSWORD, "temporary": False}],
    }
    for one in realm.server.admin("GET", f"/{REALM}/users?email=dora@example.com&exact=true"):
        realm.server.admin("DELETE", f"/{REALM}/users/{one['id']}")
    realm.server.admin("POST", f"/{REALM}/users", body)
    for one in platform.get("/v1/tenants/acme/users").json():
        if one["email"] == "dora@example.com":
            assert platform.delete(f"/v1/tenants/acme/users/{one['id']}").status_code == 204
    invited(platform, "dora")
    return "dora"


def links(realm: Realm, name: str) -> list[str]:
    path = f"/{REALM}/users/{realm.person(name)['id']}/federated-identity"
    return [one["identityProvider"] for one in realm.server.admin("GET", path)]


@WAYS
@pytest.mark.parametrize("trust", [True, False], ids=["trusted", "untrusted"])
def test_the_address_of_somebody_else_gives_nobody_the_account(
    realm: Realm,
    upstream: Upstream,
    platform: httpx.Client,
    dora: str,
    browser: Browser,
    trust: bool,
    provider: str,
) -> None:
    realm.settle(**config(trust=trust))
    upstream.person("mallory", "editors", "operators", verified=False, email="dora@example.com")
    page = browser.through(address(platform), provider, "mallory")
    assert page.status_code == 200 and "linkAccount" in page.text, page.text
    page = browser.send(page, submitAction="linkAccount")
    assert 'name="password"' in page.text and "dora@example.com" in page.text
    page = browser.send(page, username="dora@example.com", password="a guess of Mallory")
    assert page.status_code == 200 and 'name="password"' in page.text
    assert links(realm, dora) == []
    assert realm.roles(dora) == {"/tenants/acme/owner"}


@WAYS
def test_a_person_with_an_account_confirms_it_once_with_the_password(
    realm: Realm,
    upstream: Upstream,
    platform: httpx.Client,
    untrusted: None,
    dora: str,
    browser: Browser,
    provider: str,
) -> None:
    upstream.person("dora", "editors", verified=False)
    page = browser.send(browser.through(address(platform), provider, "dora"), submitAction="linkAccount")
    made = key_of(platform, browser.send(page, username="dora@example.com", password=PASSWORD))
    assert made.status_code == 200, made.text
    assert links(realm, dora) == [provider]
    again = key_of(platform, Browser().through(address(platform), provider, "dora"))
    assert again.json()["user"] == made.json()["user"]


@WAYS
def test_a_provider_without_trust_makes_no_accounts(
    realm: Realm, upstream: Upstream, platform: httpx.Client, untrusted: None, browser: Browser, provider: str
) -> None:
    upstream.person("erin", "editors")
    page = browser.through(address(platform), provider, "erin")
    assert page.status_code == 401 and "linkAccount" not in page.text
    assert realm.server.admin("GET", f"/{REALM}/users?email=erin@example.com&exact=true") == []


def test_another_address_at_the_provider_later_does_not_change_the_account(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, dora: str, browser: Browser
) -> None:
    upstream.person("fred", "editors")
    invited(platform, "fred")
    first = key_of(platform, browser.through(address(platform), OIDC, "fred")).json()
    path = f"{upstream.base}/users/{upstream.found('fred')}"
    upstream.server.admin("PUT", path, {"email": "dora@example.com", "emailVerified": True})
    again = key_of(platform, Browser().through(address(platform), OIDC, "fred")).json()
    assert again["user"] == first["user"]
    assert realm.person("fred")["email"] == "fred@example.com"


def test_a_login_without_an_invitation_gives_no_key(
    upstream: Upstream, platform: httpx.Client, trusted: None, browser: Browser
) -> None:
    upstream.person("gina", "editors")
    answer = key_of(platform, browser.through(address(platform), OIDC, "gina"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_invited")


def _saml_form(page: httpx.Response) -> tuple[str, str]:
    """The assertion that a page of the provider is about to send, and where to."""
    action, content = (
        re.search(r'action="([^"]+)"', page.text),
        re.search(r'name="SAMLResponse" value="([^"]+)"', page.text),
    )
    assert action is not None and content is not None, page.text
    return action[1].replace("&amp;", "&"), base64.b64decode(content[1]).decode()


class Holding(Browser):
    """A browser that stops before it sends an assertion to the platform."""

    def carried(self, page: httpx.Response) -> httpx.Response:
        while page.status_code == 200 and 'name="SAMLRequest"' in page.text:
            page = self.send(page)
        return page


def _changed(assertion: str, how: str) -> str:
    if how == "other-person":
        return assertion.replace("henry@example.com", "dora@example.com")
    if how == "unsigned":
        return re.sub(r"<(dsig|ds):Signature.*?</\1:Signature>", "", assertion, flags=re.DOTALL)
    if how == "other-audience":
        return re.sub(r"(<saml:Audience>)[^<]+", r"\1https://elsewhere.example.com", assertion)
    return assertion.replace(">editors<", ">operators<")


@pytest.mark.parametrize("how", ["other-person", "other-group", "other-audience", "unsigned"])
def test_a_forged_assertion_is_refused(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, dora: str, how: str
) -> None:
    upstream.person("henry", "editors")
    browser = Holding()
    with browser.http:
        page = browser.through(address(platform), SAML, "henry")
        action, assertion = _saml_form(page)
        forged = _changed(assertion, how)
        assert forged != assertion
        state = re.search(r'name="RelayState" value="([^"]+)"', page.text)
        assert state is not None
        form = {"SAMLResponse": base64.b64encode(forged.encode()).decode(), "RelayState": state[1]}
        answer = browser.open("POST", action, data=form)
        assert answer.status_code == 400, answer.text
        assert links(realm, dora) == []
        assert realm.server.admin("GET", f"/{REALM}/users?email=henry@example.com&exact=true") == []


def test_an_assertion_for_another_service_is_refused(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None
) -> None:
    """The provider signs for another service, which passes the assertion on. Only its audience is wrong."""
    endpoint = f"{upstream.server.url}/realms/{REALM}/broker/{SAML}/endpoint"
    begins = upstream.serves("https://elsewhere.example.com", endpoint)
    upstream.person("iris", "editors")
    browser = Holding()
    with browser.http:
        waiting = browser.open("GET", f"{address(platform)}&kc_idp_hint={SAML}")
        state = re.search(r'name="RelayState" value="([^"]+)"', waiting.text)
        assert state is not None, waiting.text
        page = browser.send(browser.open("GET", begins), username="iris", password=PASSWORD)
        action, assertion = _saml_form(page)
        assert action == endpoint and "https://elsewhere.example.com</saml:Audience>" in assertion
        form = {"SAMLResponse": base64.b64encode(assertion.encode()).decode(), "RelayState": state[1]}
        answer = browser.open("POST", endpoint, data=form)
        assert answer.status_code == 400, answer.text
    assert realm.server.admin("GET", f"/{REALM}/users?email=iris@example.com&exact=true") == []


def test_while_the_provider_is_away_sessions_and_local_people_go_on(
    realm: Realm, upstream: Upstream, platform: httpx.Client, trusted: None, dora: str, browser: Browser
) -> None:
    upstream.person("judy", "editors")
    invited(platform, "judy")
    assert key_of(platform, browser.through(address(platform), OIDC, "judy")).status_code == 200
    upstream.enable(False)
    try:
        assert key_of(platform, browser.open("GET", address(platform))).status_code == 200  # the session lasts
        assert key_of(platform, Browser().log_in(address(platform), "dora@example.com")).status_code == 200
        page = Browser().open("GET", f"{address(platform)}&kc_idp_hint={OIDC}")
        assert page.status_code != 302
    finally:
        upstream.enable(True)
    assert key_of(platform, Browser().through(address(platform), OIDC, "judy")).status_code == 200


FADING = "https://fading.example.com"
"""A provider whose answers a test chooses."""


def fading(name: str = "fading") -> dict[str, Any]:
    oidc = {"issuer": FADING, "clientId": CLIENT, "secretName": "fading"}
    grants = [{"claim": "groups", "value": "editors", "role": "editor", "tenant": "acme"}]
    way = {"name": name, "oidc": oidc, "trustEmail": True, "grants": grants}
    return {"tenants": ("acme",), "secondFactor": "optional", "providers": [way]}


@pytest.fixture
def provider_of_a_test(realm: Realm) -> Iterator[Provider]:
    made = Provider()
    (realm.server.vault / f"{REALM}_fading").write_text("x")
    yield made
    made.close()
    realm.settle(**config())


def test_an_update_goes_on_with_known_metadata_while_the_provider_is_away(
    realm: Realm, provider_of_a_test: Provider
) -> None:
    places = {FADING: provider_of_a_test.url}
    realm.settle(places, **fading())
    provider_of_a_test.close()
    assert realm.settle(places, **fading()) == []
    with pytest.raises(Problem, match="cannot read the metadata of the provider other"):
        realm.differs(places, **fading("other"))


def test_a_provider_that_calls_itself_otherwise_is_refused(realm: Realm, provider_of_a_test: Provider) -> None:
    provider_of_a_test.issuer = "https://elsewhere.example.com"
    with pytest.raises(Problem, match="calls itself https://elsewhere"):
        realm.differs({FADING: provider_of_a_test.url}, **fading())


@pytest.mark.parametrize(
    "wrong",
    [{}, {"aud": "another-platform"}, {"iss": "https://elsewhere.example.com"}, {"exp": 1}, {"nonce": "x"}, {"key": 1}],
    ids=["right", "other-audience", "other-issuer", "expired", "other-login", "other-key"],
)
def test_a_forged_token_of_a_provider_is_refused(
    realm: Realm, platform: httpx.Client, provider_of_a_test: Provider, browser: Browser, wrong: dict[str, Any]
) -> None:
    realm.settle({FADING: provider_of_a_test.url}, **fading())
    name = f"nora-{'-'.join(wrong)}"
    sent = browser.open("GET", f"{address(platform)}&kc_idp_hint=fading").headers["location"]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(sent).query).items()}
    claims = {"iss": provider_of_a_test.issuer, "aud": CLIENT, "sub": name, "exp": int(time.time()) + 60}
    claims |= {"iat": int(time.time()), "nonce": asked["nonce"], "email": f"{name}@example.com", "email_verified": True}
    claims |= {"given_name": "Nora", "family_name": "Example", "preferred_username": name, "groups": ["editors"]}
    if "key" in wrong:
        provider_of_a_test.forge()
    back = {"code": json.dumps({**claims, **wrong}), "state": asked["state"]}
    answer = browser.open("GET", f"{asked['redirect_uri']}?{urlencode(back)}")
    made = realm.server.admin("GET", f"/{REALM}/users?email={name}@example.com&exact=true")
    assert (answer.status_code == 302) == bool(made) == (not wrong), answer.text


def test_the_only_way_in_asks_for_no_password(
    realm: Realm, upstream: Upstream, platform: httpx.Client, dora: str, browser: Browser
) -> None:
    wanted = config()
    wanted["providers"] = [{**wanted["providers"][0], "only": True}]
    realm.settle(**wanted)
    upstream.person("kim", "editors")
    invited(platform, "kim")
    page = browser.open("GET", address(platform))
    assert "/realms/upstream/" in str(page.url)
    assert key_of(platform, browser.at_provider(page, "kim")).status_code == 200
    realm.settle(**config())
    page = Browser().open("GET", address(platform))
    assert "/realms/upstream/" not in str(page.url) and 'name="password"' in page.text


def test_a_provider_that_is_not_shown_is_reached_by_its_name_only(
    realm: Realm, upstream: Upstream, platform: httpx.Client
) -> None:
    realm.settle(**config(shown=False))
    assert f"/broker/{OIDC}/" not in Browser().open("GET", address(platform)).text
    page = Browser().open("GET", f"{address(platform)}&kc_idp_hint={OIDC}")
    assert "/realms/upstream/" in str(page.url)


def test_a_second_factor_of_the_platform_is_asked_for_after_the_providers_login(
    realm: Realm, upstream: Upstream, platform: httpx.Client, browser: Browser
) -> None:
    realm.settle(**config() | {"secondFactor": "required"})
    upstream.person("lena", "editors")
    invited(platform, "lena")
    page = browser.through(address(platform), OIDC, "lena")
    assert page.status_code == 200 and 'name="totpSecret"' in page.text
    realm.settle(**config())


def test_changes_of_others_are_shown_and_settled(realm: Realm, upstream: Upstream, trusted: None) -> None:
    base, server = f"/{REALM}", realm.server
    assert realm.differs(**config()) == []
    path = f"{base}/identity-provider/instances/{OIDC}"
    there = server.admin("GET", path)
    changed = {**there, "trustEmail": False, "config": {**there["config"], "validateSignature": "false"}}
    server.admin("PUT", path, changed)
    server.admin(
        "POST",
        f"{path}/mappers",
        {
            "name": "all",
            "identityProviderAlias": OIDC,
            "identityProviderMapper": "oidc-hardcoded-role-idp-mapper",
            "config": {"role": "operator", "syncMode": "FORCE"},
        },
    )
    steps = server.admin("GET", f"{base}/authentication/flows/cogniforge existing account/executions")
    password = next(one for one in steps if one["providerId"] == "idp-username-password-form")
    server.admin(
        "PUT",
        f"{base}/authentication/flows/cogniforge existing account/executions",
        {**password, "requirement": "DISABLED"},
        (200, 202, 204),
    )
    found = realm.differs(**config())
    assert [line.partition(";")[0] for line in found] == [
        "change flow cogniforge existing account",
        f"change provider {OIDC}",
        f"remove claim all of provider {OIDC}",
    ]
    assert 'validateSignature: "false" -> "true"' in found[1]
    assert sorted(realm.settle(**config())) == sorted(found)
    assert realm.differs(**config()) == []


def test_what_is_not_declared_any_more_is_removed_and_a_provider_of_others_stays(
    realm: Realm, upstream: Upstream, trusted: None
) -> None:
    base, server = f"/{REALM}", realm.server
    theirs = {
        "alias": "theirs",
        "providerId": "oidc",
        "enabled": False,
        "config": {
            "clientId": "x",
            "authorizationUrl": "https://x.example.com/a",
            "tokenUrl": "https://x.example.com/t",
        },
    }
    server.admin("POST", f"{base}/identity-provider/instances", theirs)
    server.admin(
        "POST", f"{base}/authentication/flows", {"alias": "theirs", "providerId": "basic-flow", "topLevel": True}
    )
    try:
        removed = realm.settle(tenants=("acme",), secondFactor="optional")
        assert {f"remove provider {OIDC}", f"remove provider {SAML}", "remove flow cogniforge after"} <= {*removed}
        left = [one["alias"] for one in server.admin("GET", f"{base}/identity-provider/instances")]
        assert left == ["theirs"]
        assert "theirs" in [one["alias"] for one in server.admin("GET", f"{base}/authentication/flows")]
        with pytest.raises(Problem, match="provider theirs exists and was not made by this task"):
            realm.differs(tenants=("acme",), providers=[{"name": "theirs", "oidc": OVER_OIDC}])
    finally:
        server.admin("DELETE", f"{base}/identity-provider/instances/theirs")
        realm.settle(**config())


def test_the_client_secret_at_the_provider_is_not_in_keycloaks_database(realm: Realm, trusted: None) -> None:
    there = realm.server.admin("GET", f"/{REALM}/identity-provider/instances/{OIDC}")
    assert there["config"]["clientSecret"] == f"${{vault.{OIDC}}}"
