"""The realm of people in Keycloak, as data: roles, groups, clients, and rules for passwords and sessions.

Names of fields are those of Keycloak's administration API (RealmRepresentation, ClientRepresentation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from components.config.grafana import PATH as GRAFANA_PATH
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

ROLES: Mapping[str, str] = {"operator": "Operates the platform: all tenants, and the operators' paths"}
"""Roles of the whole platform, with their meaning."""


class TenantRole(StrEnum):
    """Role in a tenant. Each has the name of one of User's relations, and is a group of its tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    MEMBER = "member"


GROUPS_CLAIM = "groups"
"""Claim of tokens with the paths of a user's groups."""
_DEVICE = "oauth2.device.authorization.grant.enabled"
_LATER = "client_credentials.use_refresh_token"
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
            "fullScopeAllowed": not self.machine,
            "redirectUris": list(self.redirects),
            "webOrigins": [],
            "attributes": {
                _DEVICE: str(self.device).lower(),
                _LATER: "false",
                **({"pkce.code.challenge.method": "S256"} if self.redirects or self.device else {}),
            },
            "protocolMappers": [*_claims(self.audience), *([_ROLES] if self.roles else [])] if self.audience else [],
            **({"secretOf": self.login} if self.secret else {}),
        }


@dataclass(frozen=True)
class Realm:
    """The declared realm."""

    settings: Mapping[str, Any]
    clients: tuple[Client, ...]
    tenants: tuple[str, ...] = ()
    actions: Mapping[str, Mapping[str, bool]] = field(default_factory=dict[str, Mapping[str, bool]])
    """What users must do at a login, by Keycloak's name."""

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
        }


def declared(config: Keycloak, url: str, *, grafana: bool = False) -> Realm:
    """The realm of a platform at this URL. `grafana`: whether people log in to Grafana."""
    required = config.second_factor is SecondFactor.REQUIRED
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
            *(Client(name, f"Program {name}", secret=True, machine=True) for name in config.machines),
        ),
        tenants=tuple(config.tenants),
        actions={"CONFIGURE_TOTP": {"enabled": True, "defaultAction": required}},
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


def _claims(audience: str) -> list[dict[str, Any]]:
    """Claims of a client's tokens: whom they are for, and the user's groups."""
    in_tokens = {"access.token.claim": "true", "id.token.claim": "true"}
    return [
        {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {
                "included.client.audience": audience,
                "access.token.claim": "true",
                "id.token.claim": "false",
            },
        },
        {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": GROUPS_CLAIM, "full.path": "true", "userinfo.token.claim": "false", **in_tokens},
        },
    ]
