"""The realm of people in Keycloak, as data: roles, groups, clients, and rules for passwords and sessions.

Names of fields are those of Keycloak's administration API (RealmRepresentation, ClientRepresentation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.config.applications import Application, Protocol
from components.config.grafana import PATH as GRAFANA_PATH
from components.config.providers import TenantRole
from components.config.security import (
    ARGO_CD,
    CLI,
    CLIENT_LOGIN,
    GATEWAY_CLIENT,
    GRAFANA,
    PORTAL,
    REALM,
    Keycloak,
    SecondFactor,
)
from components.security import realm_providers

ROLES: Mapping[str, str] = {"operator": "Operates the platform: all tenants, and the operators' paths"}
"""Roles of the whole platform, with their meaning."""
GROUPS_CLAIM = "groups"
"""Claim of tokens with the paths of a user's groups."""
_DEVICE = "oauth2.device.authorization.grant.enabled"
_LATER = "client_credentials.use_refresh_token"
EXCHANGE = "standard.token.exchange.enabled"
"""Attribute of clients that may exchange tokens (RFC 8693)."""
_ROLES = {
    "name": "roles",
    "protocol": "openid-connect",
    "protocolMapper": "oidc-usermodel-realm-role-mapper",
    "config": {
        "claim.name": "roles",
        "jsonType.label": "String",
        "multivalued": "true",
        "access.token.claim": "false",
        "id.token.claim": "true",
        "userinfo.token.claim": "false",
    },
}
"""Claim of tokens with the roles of a user in the whole platform."""


@dataclass(frozen=True)
class Client:
    """A program that uses Keycloak. Every kind of login is off unless it is named here."""

    name: str
    about: str
    secret: bool = False
    """Whether the program keeps a secret; others use PKCE or the device flow only."""
    redirects: tuple[str, ...] = ()
    """Addresses to which browsers return after a login; empty: no login in a browser."""
    device: bool = False
    """Login with a code that a person enters in a browser on any device (RFC 8628)."""
    machine: bool = False
    """The program logs in as itself, with its secret."""
    audience: str = GATEWAY_CLIENT
    """Whom its access tokens are for; empty: it gets none."""
    roles: bool = False
    """Whether its ID tokens have the user's roles."""
    limited: bool = False
    """Whether its tokens have none of Keycloak's own roles, as those of machines."""
    acts: bool = False
    """Whether it may exchange people's access tokens (RFC 8693)."""
    also_for: tuple[str, ...] = ()
    """Further clients that its access tokens are for, which may exchange them."""

    @property
    def login(self) -> str:
        """Name of the login with its secret; empty: it has none."""
        return f"{CLIENT_LOGIN}{self.name}" if self.secret else ""

    @property
    def content(self) -> dict[str, Any]:
        """The client as Keycloak's API takes it."""
        return {
            "name": self.about,
            "enabled": True,
            "protocol": "openid-connect",
            "publicClient": not self.secret,
            "standardFlowEnabled": bool(self.redirects),
            "implicitFlowEnabled": False,
            "directAccessGrantsEnabled": False,
            "serviceAccountsEnabled": self.machine,
            "fullScopeAllowed": not (self.machine or self.limited),
            "redirectUris": list(self.redirects),
            "webOrigins": [],
            "attributes": {
                _DEVICE: str(self.device).lower(),
                _LATER: "false",
                EXCHANGE: str(self.acts).lower(),
                **({"pkce.code.challenge.method": "S256"} if self.redirects or self.device else {}),
            },
            "protocolMappers": self._mappers if self.audience else [],
            **({"secretOf": self.login} if self.secret else {}),
        }

    @property
    def _mappers(self) -> list[dict[str, Any]]:
        more = [_audience(f"audience {name}", name) for name in self.also_for]
        return [*_claims(self.audience), *more, *([_ROLES] if self.roles else [])]


@dataclass(frozen=True)
class SamlClient:
    """An application that logs people in with SAML. Assertions have the address, the names and the groups."""

    name: str
    """Its entity ID."""
    about: str
    consumers: tuple[str, ...]
    """URLs that receive assertions, by the POST binding."""
    certificate: str = ""
    """What it signs its requests with, Base64; empty: they are not signed."""
    login: str = ""

    @property
    def content(self) -> dict[str, Any]:
        """The client as Keycloak's API takes it."""
        return {
            "name": self.about,
            "enabled": True,
            "protocol": "saml",
            "publicClient": True,
            "standardFlowEnabled": True,
            "fullScopeAllowed": False,
            "redirectUris": list(self.consumers),
            "attributes": {
                "saml.assertion.signature": "true",
                "saml.server.signature": "true",
                "saml.signature.algorithm": "RSA_SHA256",
                "saml.client.signature": str(bool(self.certificate)).lower(),
                **({"saml.signing.certificate": self.certificate} if self.certificate else {}),
                "saml.force.post.binding": "true",
                "saml.authnstatement": "true",
                "saml_force_name_id_format": "true",
                "saml_name_id_format": "persistent",
                "saml_assertion_consumer_url_post": self.consumers[0],
            },
            "protocolMappers": [*(_property(name) for name in ("email", "firstName", "lastName")), _SAML_GROUPS],
        }


@dataclass(frozen=True)
class Realm:
    """The declared realm."""

    settings: Mapping[str, Any]
    clients: tuple[Client | SamlClient, ...]
    tenants: tuple[str, ...] = ()
    actions: Mapping[str, Mapping[str, bool]] = field(default_factory=dict[str, Mapping[str, bool]])
    """What users must do at a login, by Keycloak's name."""
    flows: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Steps of logins through other providers, by flow."""
    providers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Other identity providers, by name."""
    browser_flow: str = realm_providers.BUILT_IN

    @property
    def groups(self) -> list[str]:
        """Paths of the groups."""
        return [f"/tenants/{tenant}/{role}" for tenant in self.tenants for role in TenantRole]

    @property
    def content(self) -> dict[str, Any]:
        """The realm as the task takes it."""
        return {
            "realm": REALM,
            "settings": dict(self.settings),
            "actions": {name: dict(asked) for name, asked in self.actions.items()},
            "roles": {name: {"description": about} for name, about in ROLES.items()},
            "groups": self.groups,
            "clients": {client.name: client.content for client in self.clients},
            "flows": dict(self.flows),
            "providers": dict(self.providers),
            "browserFlow": self.browser_flow,
        }


def declared(config: Keycloak, url: str, *, grafana: bool = False) -> Realm:
    """The realm of a platform at this URL. `grafana`: whether people log in to Grafana."""
    required = config.second_factor is SecondFactor.REQUIRED
    acting = {one.machine for one in config.delegates}
    return Realm(
        settings=_settings(config),
        clients=(
            Client(PORTAL, "Login page of the platform", secret=True, redirects=(f"{url}/v1/callback",)),
            # It only names the audience of tokens.
            Client(GATEWAY_CLIENT, "The platform's API", audience=""),
            Client(CLI, "forge on people's machines", device=True),
            *(
                Client(ARGO_CD, "Argo CD", secret=True, redirects=(f"{where}/auth/callback",), audience=ARGO_CD)
                for where in (config.argo_cd,)
                if where
            ),
            *([_grafana(url)] if grafana else []),
            *(
                Client(name, f"Program {name}", secret=True, machine=True, acts=name in acting)
                for name in config.machines
            ),
            *(_application(one, config) for one in config.applications),
        ),
        tenants=tuple(config.tenants),
        flows=realm_providers.flows(config),
        providers=realm_providers.providers(config),
        browser_flow=realm_providers.browser_flow(config),
        actions={"CONFIGURE_TOTP": {"enabled": True, "defaultAction": required}},
    )


def _application(one: Application, config: Keycloak) -> Client | SamlClient:
    about = f"Application {one.name}"
    if one.protocol is Protocol.SAML:
        return SamlClient(one.client_id, about, tuple(one.redirects), one.certificate or "")
    acting = tuple(delegate.machine for delegate in config.delegates if one.name in delegate.applications)
    return Client(
        one.name,
        about,
        secret=one.secret,
        redirects=tuple(one.redirects),
        audience=one.name,
        also_for=acting,
        limited=True,
    )


def _grafana(url: str) -> Client:
    return Client(
        GRAFANA,
        "Dashboards of the platform",
        secret=True,
        redirects=(f"{url}{GRAFANA_PATH}login/generic_oauth",),
        audience=GRAFANA,
        roles=True,
    )


def _settings(config: Keycloak) -> dict[str, Any]:
    passwords, attempts, sessions = config.passwords, config.attempts, config.sessions
    longest = sessions.hours * 3600
    rules = [f"length({passwords.length})", "notUsername", "notEmail"]
    return {
        "enabled": True,
        "displayName": "CogniForge",
        "sslRequired": "external",
        # Operators invite people. Who may log in is not decided by who finds the page.
        "registrationAllowed": False,
        "resetPasswordAllowed": False,
        "rememberMe": False,
        "loginWithEmailAllowed": True,
        "duplicateEmailsAllowed": False,
        "editUsernameAllowed": False,
        "revokeRefreshToken": True,
        "refreshTokenMaxReuse": 0,
        # Keycloak makes this key with the realm, and others when it first signs: after services have read its keys.
        "defaultSignatureAlgorithm": "RS256",
        "passwordPolicy": " and ".join(
            [*rules, *([f"passwordHistory({passwords.history})"] if passwords.history else [])]
        ),
        "bruteForceProtected": True,
        "permanentLockout": False,
        "failureFactor": attempts.failures,
        "waitIncrementSeconds": attempts.wait_seconds,
        "maxFailureWaitSeconds": attempts.longest_seconds,
        "accessTokenLifespan": sessions.token_minutes * 60,
        "ssoSessionIdleTimeout": sessions.idle_minutes * 60,
        "ssoSessionMaxLifespan": longest,
        "otpPolicyType": "totp",
        "otpPolicyAlgorithm": "HmacSHA1",  # the only one that all authenticator programs have
        # A realm that is made with a part of this policy has 0 for the rest, and fails when somebody sets up a device.
        "otpPolicyDigits": 6,
        "otpPolicyPeriod": 30,
        "otpPolicyLookAheadWindow": 1,
        "otpPolicyCodeReusable": False,
        "eventsEnabled": True,
        "eventsExpiration": 90 * 86_400,
        "adminEventsEnabled": True,
    }


def _property(name: str) -> dict[str, Any]:
    """A field of a user as an attribute of assertions."""
    config = {"user.attribute": name, "attribute.name": name, "attribute.nameformat": "Basic"}
    return {"name": name, "protocol": "saml", "protocolMapper": "saml-user-property-mapper", "config": config}


_SAML_GROUPS = {
    "name": "groups",
    "protocol": "saml",
    "protocolMapper": "saml-group-membership-mapper",
    "config": {
        "attribute.name": GROUPS_CLAIM,
        "attribute.nameformat": "Basic",
        "single": "true",
        "full.path": "true",
    },
}


def _audience(name: str, client: str) -> dict[str, Any]:
    """Whom a client's access tokens are for."""
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": {
            "included.client.audience": client,
            "access.token.claim": "true",
            "id.token.claim": "false",
        },
    }


def _claims(audience: str) -> list[dict[str, Any]]:
    """Claims of a client's tokens: whom they are for, and the user's groups."""
    in_tokens = {"access.token.claim": "true", "id.token.claim": "true"}
    return [
        _audience("audience", audience),
        {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": GROUPS_CLAIM, "full.path": "true", "userinfo.token.claim": "false", **in_tokens},
        },
    ]
