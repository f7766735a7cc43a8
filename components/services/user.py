"""User: manages tenants, teams, users and API keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from components.config.base import Change, DnsLabel, Section, matching, setting
from components.config.problems import Conflict
from components.config.security import CLI, CLIENT_LOGIN, GATEWAY_CLIENT, PORTAL, REALM
from components.services.quotas import OfTenant, quotas
from components.services.record import (
    DEAD_LETTER_HANDLED,
    QUOTA_REACHED,
    TENANT_DELETED,
    TENANT_ERASED,
    Bundled,
    Prefix,
    ServiceRecord,
    Surroundings,
)


class Login(Section):
    """Login of people through an OpenID Connect provider, such as Keycloak."""

    issuer: Annotated[str, matching(r"https://[^\s]+", "an https URL", 'write it like "https://login.example.com"')] = (
        setting(Change.SAFE, "Issuer URL of the provider")
    )
    client_id: str = setting(Change.SAFE, "Client ID of the platform at the provider", min_length=1, max_length=200)
    secret_name: DnsLabel = setting(
        Change.SAFE, 'Secret in the platform\'s namespace; its entry "secret" holds the client secret'
    )


class UserQuotas(Section):
    """Limits on what a tenant stores in User."""

    users: int = setting(Change.SAFE, "Users", default=10_000, ge=1, le=10_000_000)
    teams: int = setting(Change.SAFE, "Teams", default=1000, ge=1, le=1_000_000)
    keys: int = setting(Change.SAFE, "Most valid API keys", default=5000, ge=1, le=1_000_000)
    relations: int = setting(Change.SAFE, "Relations", default=100_000, ge=1, le=100_000_000)


class UserQuotasOf(OfTenant, UserQuotas):
    """Limits for one tenant, in place of the general ones."""


class User(Bundled):
    """Manages tenants, teams, users and API keys."""

    quotas: UserQuotas = setting(Change.SAFE, "Limits per tenant", default=UserQuotas())
    quotas_of: tuple[UserQuotasOf, ...] = setting(
        Change.SAFE, "Limits of single tenants, in place of quotas", default=(), max_length=1000, strict=False
    )

    login: Login | None = setting(Change.SAFE, "OpenID Connect provider for people's login", default=None)


def _variables(section: User, around: Surroundings) -> dict[str, str]:
    erasers = sorted(record.name for record in around.records.values() if record.erases)
    found = {"SERVICE_ERASED_BY": json.dumps(erasers), **quotas(section.quotas, section.quotas_of)}
    login = _login(section, around)
    if login:
        found["SERVICE_OIDC_ISSUER"] = login.issuer
        found["SERVICE_OIDC_CLIENT"] = login.client_id
        found["SERVICE_OIDC_REDIRECT"] = f"{around.url}/v1/callback"
    if login and (arrival := next((record.arrival for record in around.records.values() if record.arrival), "")):
        found["SERVICE_OIDC_ARRIVAL"] = arrival
    if around.security.keycloak:
        found["SERVICE_OIDC_AUDIENCE"] = GATEWAY_CLIENT
        found["SERVICE_OIDC_PROGRAMS"] = json.dumps([CLI])
        delegates = {one.machine: sorted(one.scopes) for one in around.security.keycloak.delegates}
        if delegates:
            found["SERVICE_OIDC_DELEGATES"] = json.dumps(delegates)
    return found


def _login(section: User, around: Surroundings) -> Login | None:
    """The provider of logins: the platform's own Keycloak, or the configured one."""
    if around.security.keycloak is None:
        return section.login
    secret = f"login-{CLIENT_LOGIN}{PORTAL}"
    return Login(issuer=f"{around.url}/realms/{REALM}", client_id=PORTAL, secret_name=secret)


def _secrets(section: User, around: Surroundings) -> dict[str, tuple[str, str]]:
    login = _login(section, around)
    return {"SERVICE_OIDC_SECRET": (login.secret_name, "secret")} if login else {}


def _conflicts(section: User, around: Surroundings) -> Iterator[Conflict]:
    hosts, oidc = around.gateway.hosts, around.gateway.oidc
    if section.login and hosts[0].startswith("*"):
        text = "no wildcard in the first host name with services.user.login: the provider redirects people to that host"
        fix = 'put a name such as "api.example.com" before it'
        yield Conflict(("gateway", "hosts", 0), hosts[0], text, fix, ("services.user",))
    if section.login and around.security.keycloak:
        text = "not allowed with security.keycloak, which is then the provider of people's logins"
        fix = "remove login and add that provider to Keycloak, or remove security.keycloak"
        yield Conflict(("services", "user", "login"), section.login.issuer, text, fix, ("security",))
    if oidc:
        text = "not allowed with services.user, which identifies callers by API keys"
        fix = "remove gateway.oidc, and set services.user.login"
        yield Conflict(("gateway", "oidc"), oidc.issuer, text, fix, ("services.user",))


RECORD = ServiceRecord(
    "user",
    title="User",
    about="Manages tenants and API keys; services then require keys",
    position=1,
    section=User,
    prefixes=(
        Prefix("/v1/tenants"),
        Prefix("/v1/self"),
        Prefix("/v1/check"),
        Prefix("/v1/list-objects"),
        Prefix("/v1/login"),
        Prefix("/v1/callback"),
        Prefix("/v1/user/"),
    ),
    needs={"data.nats": "publishes keys to all services through NATS"},
    database=True,
    consumes=(TENANT_ERASED,),
    outbox=("user.changed.v1", QUOTA_REACHED, TENANT_DELETED, DEAD_LETTER_HANDLED),
    keeps=("tenants", "policies", "deleted"),
    keeps_keys=True,
    scopes=("manage", "impersonate"),
    variables=_variables,
    secrets=_secrets,
    conflicts=_conflicts,
)
