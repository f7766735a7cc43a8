"""What User's operations take and give."""

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
    """What somebody, or something, is to an object. A stronger one holds all weaker ones."""

    OWNER = "owner"
    ADMIN = "admin"
    EDITOR = "editor"
    VIEWER = "viewer"
    MEMBER = "member"
    PARENT = "parent"
    """The subject is an object that this one is in: who has a right to that one has it to this one."""


def _few_characters(models: tuple[str, ...]) -> tuple[str, ...]:
    characters = sum(map(len, models))
    if characters > limits.TENANT_MODELS.most:
        raise ValueError(f"they have {characters} characters; at most {limits.TENANT_MODELS.most} are possible in all")
    return models


class Limits(Model):
    """What a tenant may use; 0 and none: no limit."""

    name: Text = ""
    models: Annotated[tuple[ModelName, ...], Field(max_length=200), AfterValidator(_few_characters)] = ()
    requests_per_minute: Limit = 0
    tokens_per_minute: Limit = 0


class NewTenant(Limits):
    """A tenant to be."""

    id: Id


class Tenant(NewTenant):
    """A tenant."""

    created: datetime


class Deletion(Model):
    """How far the deletion of a tenant is."""

    tenant: str
    deleted: datetime
    waiting: list[str]
    """Services that have not erased yet what they hold of it."""
    erased: dict[str, datetime]
    """When each of the others has."""


class NewUser(Model):
    """A user to be: the first login to the tenant with this address, if the provider has verified it, is theirs."""

    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
    name: Text = ""


class User(NewUser):
    """A user."""

    id: str
    tenant: str
    created: datetime


class NewTeam(Model):
    """A team to be."""

    id: Id
    name: Text = ""


class NewKey(Model):
    """A key to be."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
    scopes: Annotated[tuple[Scope, ...], Field(max_length=20)] = ()
    """None: all but `admin` and `impersonate`. Each must be one of the key that asks."""
    user: Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")] = ""
    """Empty: that of the key that asks. Another needs the scope `impersonate`."""
    expires: Moment | None = None
    """None: when the key that asks ends, if it does; it cannot be later."""


class Made(StrEnum):
    """What becomes of keys that were made with a key that is revoked."""

    REVOKE = "revoke"
    KEEP = "keep"
    """For a key that is replaced by one that it has made. They go when it is revoked again without this."""


class Revocation(Model):
    """How a key is revoked."""

    made: Made = Made.REVOKE
    """What becomes of the keys that were made with it, and with those, and so on."""


class Key(Model):
    """A key, without what it is."""

    id: str
    tenant: str
    name: str
    user: str
    hint: str
    """Its first letters."""
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None
    revoked: datetime | None


class IssuedKey(Key):
    """A key that was just made."""

    key: str
    """What it is; shown once, kept nowhere."""


class Tuple(Model):
    """One relation."""

    object: Object
    relation: Relation
    subject: Subject


class Relations(Model):
    """Changes that are made together."""

    writes: Annotated[tuple[Tuple, ...], Field(max_length=500)] = ()
    deletes: Annotated[tuple[Tuple, ...], Field(max_length=500)] = ()


class Question(Model):
    """Whether a subject has a relation to an object."""

    tenant: Id
    subject: Subject
    relation: Relation
    object: Object


class Answer(Model):
    """It has, or has not."""

    allowed: bool


class Listing(Model):
    """To which objects of a type a subject has a relation."""

    tenant: Id
    subject: Subject
    relation: Relation
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]


class Objects(Model):
    """In order of their names."""

    objects: list[str]


class NewPolicy(Model):
    """A tenant's guardrails: checked with the model that Guardrails reads them with, and kept as they were sent."""

    policy: Annotated[guard_policy.Policy, WrapValidator(_as_sent), PlainSerializer(_itself, return_type=JsonObject)]

    @property
    def content(self) -> dict[str, Any]:
        """As it was sent."""
        return cast("dict[str, Any]", self.policy)


class Policy(Model):
    """A tenant's guardrails, and whether they are in force."""

    policy: JsonObject | None
    """As it was sent; none: the platform's own holds."""
    in_force: bool
    """Whether every replica of the Guardrails service has applied it, which takes less than a second."""
    replicas: Replicas | None = None
    """In which replicas of the Guardrails service it is in force; none: it was not handed to them yet, or NATS does not
    answer."""
    problems: list[str]
    """Why it cannot be in force: it was kept before policies were checked, or when other things were possible."""


class LoginTo(Model):
    """Which tenant somebody logs in to: needed at the first login, and by who is in several."""

    tenant: Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9-]{0,62})?$")] = ""


class Login(Model):
    """What a provider sends back; parameters that are not known here are ignored. Source: RFC 6749, section 4.1.2."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: Annotated[str, Field(max_length=4096)] = ""
    state: Annotated[str, Field(max_length=4096)] = ""
    session_state: Annotated[str, Field(max_length=4096)] = ""
    iss: Annotated[str, Field(max_length=4096)] = ""
    error: Annotated[str, Field(max_length=4096)] = ""
    error_description: Annotated[str, Field(max_length=4096)] = ""
