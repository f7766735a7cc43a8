"""Inputs of a NATS cluster and its accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.config.base import DnsLabel, first_duplicate, matching
from components.config.data import Nats
from components.config.problems import violation
from components.inputs import Inputs, ResourcesArgs, Server, ServerArgs, Text

Subject = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_*-]+)*(\.>)?", "words with dots between them", 'write it like "orders.placed"'
    ),
]
Bucket = Annotated[
    str, Field(max_length=80), matching(r"[A-Za-z0-9_-]+", "letters, digits, _ and -", 'write it like "settings"')
]


class NatsAccountArgs(TypedDict):
    """A login of NATS with an account of its own."""

    name: str
    """The login. Pods with the label app.kubernetes.io/name of this value may connect."""
    sends: NotRequired[Sequence[str]]
    """Subjects that it publishes to."""
    hears: NotRequired[Sequence[str]]
    """Subjects of other accounts that it subscribes to."""
    keeps: NotRequired[Sequence[str]]
    """Key-value buckets that it writes; each has one writer."""
    follows: NotRequired[Sequence[str]]
    """Key-value buckets that it reads and receives changes of."""


class NatsArgs(ServerArgs):
    """Inputs of a NATS cluster."""

    image: pulumi.Input[str]
    """NATS' image, by digest."""
    tasks_image: pulumi.Input[str]
    """Image of the task that makes buckets, by digest."""
    exporters_image: pulumi.Input[str]
    """Image of the metrics exporter, by digest."""
    replicas: NotRequired[int]
    """Servers: 1, 3 or 5. Default 3."""
    storage: NotRequired[str]
    """JetStream volume of each server, a Kubernetes quantity. Default "5Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Of each server."""
    accounts: NotRequired[Sequence[NatsAccountArgs]]
    """Logins, each with an account that shares no subject with another but what is named here."""
    callers: NotRequired[Sequence[str]]
    """Further values of app.kubernetes.io/name whose pods may connect."""
    issued: NotRequired[Sequence[str]]
    """Accounts whose logins the pods register in a secret store, instead of one password each. Needs `store_url`."""
    store_url: NotRequired[pulumi.Input[str]]
    """URL of the secret store."""
    store_authority: NotRequired[pulumi.Input[str]]
    """CA certificate (PEM) of the secret store."""


class NatsAccount(Inputs):
    """A login with an account."""

    name: DnsLabel = Field(description="The login, and the name of pods that may connect")
    sends: list[Subject] = Field(default_factory=list[str], description="Subjects that it publishes to")
    hears: list[Subject] = Field(default_factory=list[str], description="Subjects that it subscribes to")
    keeps: list[Bucket] = Field(default_factory=list[str], description="Key-value buckets that it writes")
    follows: list[Bucket] = Field(default_factory=list[str], description="Key-value buckets that it reads")

    @property
    def reports(self) -> tuple[str, ...]:
        """Subjects on which it reports what it has applied of the buckets that it follows."""
        return tuple(f"in_force.{bucket}.{self.name}" for bucket in self.follows)


class NatsInputs(Server, Nats):
    """What `NatsArgs` may hold."""

    image: Text = Field(description="NATS' image, by digest")
    tasks_image: Text = Field(description="Image of the task that makes buckets, by digest")
    exporters_image: Text = Field(description="Image of the metrics exporter, by digest")
    accounts: list[NatsAccount] = Field(
        default_factory=list[NatsAccount], description="Logins, each with an account of its own"
    )
    callers: list[DnsLabel] = Field(
        default_factory=list[str], description="Further values of app.kubernetes.io/name whose pods may connect"
    )
    issued: list[DnsLabel] = Field(
        default_factory=list[str], description="Accounts whose logins the pods register in a secret store"
    )
    store_url: Text | None = Field(default=None, description="URL of the secret store")
    store_authority: Text | None = Field(default=None, description="CA certificate of the secret store")

    @model_validator(mode="after")
    def _issued(self) -> Self:
        if unknown := sorted({*self.issued} - {one.name for one in self.accounts}):
            raise violation(f'issued names accounts; there is no account "{unknown[0]}"', "correct the name")
        if self.issued and (self.store_url is None or self.store_authority is None):
            raise violation("issued needs store_url and store_authority", "add both, or remove issued")
        return self

    @model_validator(mode="after")
    def _one_writer(self) -> Self:
        if duplicate := first_duplicate(tuple(one.name for one in self.accounts)):
            raise violation(f'names of accounts must be unique; "{duplicate}" occurs twice', "remove one")
        if duplicate := first_duplicate(tuple(bucket for one in self.accounts for bucket in one.keeps)):
            raise violation(f'a bucket has one writer; "{duplicate}" has two', "let one of them follow it")
        return self
