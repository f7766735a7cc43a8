"""Requests and responses of the User service's operations."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast

from kit import guard_policy, limits
from kit.directory import Scope
from kit.in_force import Replicas
from kit.rest import JsonObject, Model, Moment
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Text = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]+$")]
Limit = Annotated[int, Field(ge=0, le=2**31 - 1)]
Object = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9._@-]{1,128}$")]
Subject = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}:[A-Za-z0-9._@-]{1,128}(#[a-z]{1,32})?$")]


def _as_sent(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    validate(value)
    return value


def _itself(value: Any) -> Any:
    return value


class Relation(StrEnum):
    """A relation of a subject to an object. A stronger relation includes all weaker ones."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    MEMBER = "member"
    PARENT = "parent"
    """The subject is the parent of the object: rights to the parent apply to the object."""


def _few_characters(models: tuple[str, ...]) -> tuple[str, ...]:
    characters = sum(map(len, models))
    if characters > limits.TENANT_MODELS.most:
        raise ValueError(f"the names have {characters} characters in total; the maximum is {limits.TENANT_MODELS.most}")
    return models


class Limits(Model):
    """A tenant's limits; 0 or null means no limit."""

    name: Text = ""
    models: Annotated[tuple[ModelName, ...], Field(max_length=200), AfterValidator(_few_characters)] = ()
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0


class NewTenant(Limits):
    """A tenant to create."""

    id: Id


class Tenant(NewTenant):
    """A tenant."""

    created: datetime


class Deletion(Model):
    """Progress of a tenant's deletion."""

    tenant: str
    deleted: datetime
    waiting: list[str]
    """Services that have not yet erased the tenant's data."""
    erased: dict[str, datetime]
    """When each of the other services erased the tenant's data."""


class NewUser(Model):
    """A user to create. The first login to the tenant with this address, verified by the provider, is this user."""

    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
    name: Text = ""


class User(NewUser):
    """A user."""

    id: str
    tenant: str
    created: datetime


class NewTeam(Model):
    """A team to create."""

    id: Id
    name: Text = ""


class NewKey(Model):
    """A key to create."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
    scopes: Annotated[tuple[Scope, ...], Field(max_length=20)] = ()
    """The default is all scopes but `admin` and `impersonate`. The calling key must have each scope."""
    user: Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")] = ""
    """User of the key; the default is that of the calling key. Another user needs the scope `impersonate`."""
    expires: Moment | None = None
    """When the key expires; the default is the expiry of the calling key, which is also the limit."""


class Made(StrEnum):
    """Fate of the keys that were derived from a revoked key."""

    REVOKE = "revoke"
    KEEP = "keep"
    """For a key that is replaced by one derived from it. Revoking it again without this option revokes them too."""


class Revocation(Model):
    """How to revoke a key."""

    made: Made = Made.REVOKE
    """Fate of the keys derived from this key, directly or through others."""


class Key(Model):
    """A key without its secret."""

    id: str
    tenant: str
    name: str
    user: str
    hint: str
    """First letters of the secret."""
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    client: str = ""
    """Program that acts for the user with the key; empty: the user, or whoever has the key, acts."""


class IssuedKey(Key):
    """A key that was just created."""

    key: str
    """The secret. It is returned once and not stored."""


class Tuple(Model):
    """One relation."""

    object: Object
    relation: Relation
    subject: Subject


class Relations(Model):
    """Changes that are made in one transaction."""

    writes: Annotated[tuple[Tuple, ...], Field(max_length=500)] = ()
    deletes: Annotated[tuple[Tuple, ...], Field(max_length=500)] = ()


class Question(Model):
    """A question whether a subject has a relation to an object."""

    tenant: Id
    subject: Subject
    relation: Relation
    object: Object


class Answer(Model):
    """Whether the relation exists."""

    allowed: bool


class Listing(Model):
    """A question to which objects of a type a subject has a relation."""

    tenant: Id
    subject: Subject
    relation: Relation
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Objects(Model):
    """Names of objects in alphabetical order."""

    objects: list[str]


class NewPolicy(Model):
    """A tenant's guard policy: validated with Guardrails' own model, and stored as it was sent."""

    policy: Annotated[guard_policy.Policy, WrapValidator(_as_sent), PlainSerializer(_itself, return_type=JsonObject)]

    @property
    def content(self) -> dict[str, Any]:
        """The policy as it was sent."""
        return cast("dict[str, Any]", self.policy)


class Policy(Model):
    """A tenant's guard policy, and whether it is enforced."""

    policy: JsonObject | None
    """The policy as it was sent; null means that the platform's default applies."""
    in_force: bool
    """Whether every replica of the Guardrails service applies the policy; a change takes less than a second."""
    replicas: Replicas | None = None
    """Replicas of the Guardrails service that apply the policy; null if it was not yet sent to them or NATS is
    unavailable."""
    problems: list[str]
    """Why the policy cannot be applied: it was stored before policies were validated, or under an older schema."""


class LoginTo(Model):
    """Tenant to log in to: needed at the first login, and by a user of several tenants."""

    tenant: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")] = ""


class LoginFrom(LoginTo):
    """A login that a browser begins."""

    arrive: bool = False
    """Whether the browser comes from a page, and goes back to pages with the key."""


class ProviderToken(LoginTo):
    """An access token of the identity provider, which names this platform as its audience."""

    token: Annotated[str, Field(min_length=1, max_length=16_384)]


class Login(Model):
    """Parameters that the provider returns; unknown ones are ignored. Source: RFC 6749, section 4.1.2."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: Annotated[str, Field(max_length=4096)] = ""
    state: Annotated[str, Field(max_length=4096)] = ""
    session_state: Annotated[str, Field(max_length=4096)] = ""
    iss: Annotated[str, Field(max_length=4096)] = ""
    error: Annotated[str, Field(max_length=4096)] = ""
    error_description: Annotated[str, Field(max_length=4096)] = ""
