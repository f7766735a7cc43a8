"""The security part of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import model_validator

from components.config.applications import Application, Delegate
from components.config.base import Change, DnsLabel, Resources, Section, first_duplicate, matching, setting
from components.config.data import Storage, quorum
from components.config.opa import Opa
from components.config.pod import Placement, pod_setting
from components.config.problems import violation
from components.config.providers import IdentityProvider

REALM = "cogniforge"
"""Realm of Keycloak that has the platform's people, groups and clients."""


PORTAL, GATEWAY_CLIENT, CLI, ARGO_CD, GRAFANA = CLIENTS = ("portal", "gateway", "forge", "argo-cd", "grafana")
"""Clients of the platform in this realm: User's login page, the audience of all tokens, `forge login`, Argo CD,
dashboards."""


CLIENT_LOGIN = "keycloak-"
"""Beginning of the login that has a client's secret."""
HttpsUrl = Annotated[
    str, matching(r"https://[^\s/]+", "an https URL without a path", 'write it like "https://argo.example.com"')
]


class SecretEngine(StrEnum):
    """Which program keeps secrets."""

    OPENBAO = "openbao"
    """OpenBao: MPL-2.0, initializes itself from its configuration."""
    VAULT = "vault"
    """HashiCorp Vault: has the same API, and is not supported yet."""


class Snapshots(Section):
    """Snapshots of the secret store, in the object store. They are encrypted with the store's own key."""

    every_hours: Literal[1, 2, 3, 4, 6, 8, 12, 24] = setting(
        Change.SAFE, "Hours between snapshots; a divisor of 24", default=6
    )
    keep_days: int = setting(
        Change.SAFE, "Days that snapshots are kept; the newest three are never deleted", default=7, ge=1, le=365
    )


class SecretStore(Section):
    """The secret store: each service reads its own secrets, and uses its own keys."""

    engine: SecretEngine = setting(Change.IMMUTABLE, "openbao", default=SecretEngine.OPENBAO, strict=False)
    replicas: int = setting(Change.DISRUPTIVE, "Servers: 1, 3 or 5", default=3, ge=1, le=5)
    storage: Storage = setting(Change.SAFE, "Volume of each server", default="1Gi")
    resources: Resources = setting(Change.DISRUPTIVE, "Of each server", default=Resources(cpu="100m", memory="256Mi"))
    snapshots: Snapshots = setting(
        Change.SAFE, "Schedule and retention of snapshots; they need data.objectStore", default=Snapshots()
    )
    login_hours: int = setting(
        Change.SAFE,
        "Hours after which the login of a pod for PostgreSQL is replaced at the latest",
        default=24,
        ge=1,
        le=24,
    )
    cache_login_hours: int = setting(
        Change.SAFE,
        "Hours after which the login of a pod for the cache is replaced at the latest",
        default=24,
        ge=1,
        le=24,
    )
    seal_secret_name: DnsLabel | None = setting(
        Change.IMMUTABLE,
        "Secret in the platform's namespace; its entry `key` holds the 32 bytes that unseal the store. For several "
        "servers outside AWS",
        default=None,
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        quorum(self.replicas, "servers")
        if self.engine is SecretEngine.VAULT:
            raise violation(
                "engine openbao: Vault cannot initialize and unseal itself from its configuration, and its licence "
                "(BUSL) does not allow every use",
                "remove engine",
            )
        return self


class Passwords(Section):
    """Passwords of people. No user has one until the user or an operator sets it."""

    length: int = setting(Change.SAFE, "Least number of characters", default=14, ge=8, le=128)
    history: int = setting(Change.SAFE, "Former passwords that cannot be used again", default=5, ge=0, le=24)


class Attempts(Section):
    """Limit of failed logins of one user, against guessing of passwords."""

    failures: int = setting(Change.SAFE, "Failed logins after which the user has to wait", default=10, ge=3, le=100)
    wait_seconds: int = setting(Change.SAFE, "First wait; each further one is longer", default=60, ge=10, le=3600)
    longest_seconds: int = setting(Change.SAFE, "Longest wait", default=900, ge=60, le=86_400)

    @model_validator(mode="after")
    def _longest(self) -> Self:
        if self.longest_seconds < self.wait_seconds:
            raise violation("longestSeconds at least waitSeconds", f"set longestSeconds to {self.wait_seconds} or more")
        return self


class Sessions(Section):
    """Duration of logins."""

    idle_minutes: int = setting(Change.SAFE, "Minutes without use after which a login ends", default=30, ge=5, le=1440)
    hours: int = setting(Change.SAFE, "Hours after which a login ends in any case", default=8, ge=1, le=72)
    token_minutes: int = setting(Change.SAFE, "Minutes that an access token is valid", default=5, ge=1, le=60)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.idle_minutes > self.hours * 60:
            raise violation("idleMinutes at most the minutes of hours", f"set idleMinutes to {self.hours * 60} or less")
        return self


class SecondFactor(StrEnum):
    """Whether people log in with a code of their device besides the password."""

    REQUIRED = "required"
    """A new user sets one up at the first login."""
    OPTIONAL = "optional"
    """A user may set one up, and must use it then."""


class Keycloak(Section):
    """Keycloak, the provider of people's logins. The platform declares its realm: groups, roles, clients, policies."""

    replicas: int = setting(Change.DISRUPTIVE, "Servers, which share sessions", default=1, ge=1, le=5)
    resources: Resources = setting(Change.DISRUPTIVE, "Of each server", default=Resources(cpu="100m", memory="700Mi"))
    tenants: tuple[DnsLabel, ...] = setting(
        Change.SAFE, "Tenants that have groups /tenants/<id>/<role>", default=(), max_length=1000, strict=False
    )
    machines: tuple[DnsLabel, ...] = setting(
        Change.SAFE, "Clients of programs, each with a generated secret", default=(), max_length=100, strict=False
    )
    argo_cd: HttpsUrl | None = setting(
        Change.SAFE, "URL of Argo CD, if people log in there with Keycloak", default=None
    )
    passwords: Passwords = setting(Change.SAFE, "Rules for passwords", default=Passwords())
    attempts: Attempts = setting(Change.SAFE, "Limit of failed logins", default=Attempts())
    sessions: Sessions = setting(Change.SAFE, "Duration of logins", default=Sessions())
    second_factor: SecondFactor = setting(
        Change.SAFE, "required or optional", default=SecondFactor.REQUIRED, strict=False
    )

    providers: tuple[IdentityProvider, ...] = setting(
        Change.SAFE, "Other identity providers whose people log in", default=(), max_length=20, strict=False
    )
    applications: tuple[Application, ...] = setting(
        Change.SAFE, "Applications of yours where people log in with Keycloak", default=(), max_length=100, strict=False
    )
    delegates: tuple[Delegate, ...] = setting(
        Change.SAFE, "Machines that act for people", default=(), max_length=100, strict=False
    )

    @model_validator(mode="after")
    def _names(self) -> Self:
        for field, names in (("tenants", self.tenants), ("machines", self.machines)):
            if duplicate := first_duplicate(names):
                raise violation(f'{field} must be unique; "{duplicate}" occurs twice', "remove one")
        if taken := sorted({*self.machines} & {*CLIENTS}):
            text = f"no machine with the name of a client of the platform: {', '.join(CLIENTS)}"
            raise violation(text, f"rename {taken[0]}")
        return self


class Security(Section):
    """What keeps an environment safe beside the parts that every environment has."""

    secret_store: SecretStore | None = setting(Change.IMMUTABLE, "Secrets and keys of the services", default=None)
    keycloak: Keycloak | None = setting(
        Change.IMMUTABLE, "Logins of people; needs data.postgres and services.user", default=None
    )
    opa: Opa | None = setting(Change.DISRUPTIVE, "Decisions at the gateway about who may call what", default=None)
    pod: Placement = pod_setting(Placement, "Pods of the secret store, Keycloak, OPA, and their tasks")

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that its parts run."""
        store = (self.secret_store.engine.value,) if self.secret_store else ()
        return (*store, *(("keycloak", "data-tasks") if self.keycloak else ()), *(("opa",) if self.opa else ()))

    @property
    def databases(self) -> tuple[str, ...]:
        """Databases that its parts own, each with a login of the same name."""
        return ("keycloak",) if self.keycloak else ()
