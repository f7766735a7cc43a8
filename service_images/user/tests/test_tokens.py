"""Access tokens that programs exchange for keys, and groups that are roles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient
from user.__main__ import UserSettings, create

from service_images.oidc_provider import CLIENT, Provider

HERE, AUDIENCE = "https://testserver", "gateway"


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def visit(settings: UserSettings, acme: httpx.Client, provider: Provider) -> Iterator[Callable[..., httpx.Client]]:
    """Function that starts the service with these settings; Ann is invited."""
    assert acme.post("/v1/tenants/acme/users", json={"email": "ann@example.com"}).status_code == 201
    opened: list[TestClient] = []

    def start(**own: Any) -> httpx.Client:
        more: dict[str, Any] = {"oidc_issuer": provider.url, "oidc_client": CLIENT, "oidc_secret": SecretStr("x")}
        more |= {"oidc_redirect": f"{HERE}/v1/callback", "oidc_audience": AUDIENCE, "oidc_programs": ("forge",), **own}
        opened.append(TestClient(create(settings.model_copy(update=more)), base_url=HERE, follow_redirects=False))
        return opened[-1].__enter__()

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def token(provider: Provider, **own: Any) -> str:
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "ann", "exp": int(time.time()) + 60, "azp": "forge"}
    return provider.sign({**claims, "email": "ann@example.com", "email_verified": True, **own})


def exchange(client: httpx.Client, given: str, tenant: str = "acme") -> httpx.Response:
    return client.post("/v1/login/token", json={"token": given, "tenant": tenant})


def test_a_token_gives_a_key_for_minutes(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    client = visit()
    made = exchange(client, token(provider))
    assert made.status_code == 200, made.text
    left = datetime.fromisoformat(made.json()["expires"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left <= timedelta(minutes=15)
    asked = client.get("/v1/self", headers={"authorization": f"Bearer {made.json()['key']}"})
    assert asked.json()["user"] == made.json()["user"]


def test_groups_of_the_tenant_are_roles(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    client = visit()
    member = set(exchange(client, token(provider)).json()["scopes"])
    for groups, more in (
        (["/tenants/acme/editor"], {"prompts"}),
        (["/tenants/zeta/owner", "/acme/owner", "tenants/acme/owner", "/tenants/acme/owner/x"], set[str]()),
        ("/tenants/acme/owner", set[str]()),
    ):
        assert set(exchange(client, token(provider, groups=groups)).json()["scopes"]) - member == more
    assert "manage" in exchange(client, token(provider, groups=["/tenants/acme/owner"])).json()["scopes"]


def test_groups_of_another_provider_are_no_roles(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    client = visit(oidc_audience="")
    sent = client.get("/v1/login", params={"tenant": "acme"}).headers["location"]
    usual = provider.sign

    def with_groups(claims: dict[str, Any]) -> str:
        return usual({**claims, "groups": ["/tenants/acme/owner"]})

    provider.sign = with_groups  # type: ignore[method-assign]
    made = client.get(provider.log_in(sent, "ann@example.com"))
    assert made.status_code == 200 and "manage" not in made.json()["scopes"]


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": CLIENT},
        {"aud": "argo-cd"},
        {"exp": int(time.time()) - 3600},
        {"iss": "https://elsewhere.example.com"},
        {"sub": None},
    ],
    ids=["id-token", "other-audience", "expired", "other-issuer", "nobody"],
)
def test_other_tokens_are_refused(
    visit: Callable[..., httpx.Client], provider: Provider, claims: dict[str, Any]
) -> None:
    assert exchange(visit(), token(provider, **claims)).status_code == 401


def test_without_an_audience_no_token_is_taken(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    assert exchange(visit(oidc_audience=""), token(provider)).status_code == 401


def test_a_person_without_an_invitation_is_refused(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    answer = exchange(visit(), token(provider, sub="bob", email="bob@example.com", groups=["/tenants/acme/owner"]))
    assert answer.status_code == 403


def test_the_service_reaches_the_provider_at_another_address(
    visit: Callable[..., httpx.Client], provider: Provider
) -> None:
    provider.issuer = "https://login.example.com/realms/cogniforge"
    client = visit(oidc_issuer=provider.issuer, oidc_address=provider.url)
    assert exchange(client, token(provider)).status_code == 200


DELEGATES = {"reports": ("inference", "prompts", "billing")}


def acting(provider: Provider, **own: Any) -> str:
    return token(provider, azp="reports", **own)


def test_a_delegate_has_what_both_the_person_and_it_may_do(
    visit: Callable[..., httpx.Client], provider: Provider, acme: httpx.Client
) -> None:
    client = visit(oidc_delegates=DELEGATES)
    member = exchange(client, acting(provider))
    assert (member.status_code, member.json()["scopes"]) == (200, ["inference"]), member.text
    owner = exchange(client, acting(provider, groups=["/tenants/acme/owner"]))
    assert set(owner.json()["scopes"]) == {*DELEGATES["reports"]}
    own = exchange(client, token(provider))
    assert own.json()["user"] == owner.json()["user"]
    shown = {one["id"]: one["client"] for one in acme.get("/v1/tenants/acme/keys").json()}
    assert [shown[made.json()["id"]] for made in (member, owner, own)] == ["reports", "reports", ""]


def test_a_delegates_key_ends_with_its_token(visit: Callable[..., httpx.Client], provider: Provider) -> None:
    expires = int(time.time()) + 90
    made = exchange(visit(oidc_delegates=DELEGATES), acting(provider, exp=expires))
    assert datetime.fromisoformat(made.json()["expires"]).timestamp() == expires


def test_a_delegates_token_of_a_session_that_has_ended_is_refused(
    visit: Callable[..., httpx.Client], provider: Provider
) -> None:
    client = visit(oidc_delegates=DELEGATES)
    provider.active = False
    assert exchange(client, acting(provider)).status_code == 401
    provider.close()
    assert exchange(client, acting(provider)).status_code == 503
    assert exchange(client, token(provider)).status_code == 200  # a person's own token is checked by its signature


@pytest.mark.parametrize("program", ["reports", "notes", ""])
def test_a_program_that_is_not_declared_is_refused(
    visit: Callable[..., httpx.Client], provider: Provider, program: str
) -> None:
    answer = exchange(visit(), token(provider, azp=program))
    assert answer.status_code == 401 and "not declared to act for people" in answer.json()["error"]["message"]


def test_a_delegate_that_may_do_nothing_that_the_person_may_gets_no_key(
    visit: Callable[..., httpx.Client], provider: Provider
) -> None:
    answer = exchange(visit(oidc_delegates={"reports": ("billing",)}), acting(provider))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "nothing_delegated")
