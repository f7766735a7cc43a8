"""Inputs of a Kafka cluster, its topics and its users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.cluster.aws_site import AwsSite, AwsSiteArgs
from components.config.base import DnsLabel, first_duplicate, matching
from components.config.data import Kafka
from components.config.problems import violation
from components.inputs import AnyText, Inputs, ResourcesArgs, Server, ServerArgs, Text

TopicName = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        "lower-case words, digits, dots and hyphens",
        'write it like "orders.placed.v1"',
    ),
]


class Right(TypedDict):
    """One allowed operation, in the terms of Kafka's ACLs."""

    kind: str
    """TOPIC, GROUP, CLUSTER or TRANSACTIONAL_ID."""
    name: str
    """Name of the topic, group or transaction, or what it begins with."""
    pattern: str
    """LITERAL or PREFIXED."""
    operation: str
    """READ, WRITE, DESCRIBE, CREATE, ALL ..."""


class KafkaTopicSettings(TypedDict):
    """A topic that differs from the cluster's defaults."""

    name: str
    """Lower-case words, digits, dots and hyphens."""
    partitions: NotRequired[int]
    """Can only grow. Default: the cluster's."""
    retention_hours: NotRequired[int]
    """For how long events are kept. Default: the cluster's."""


class KafkaUserArgs(TypedDict):
    """A login of Kafka, and what it may do."""

    name: str
    """The login. Pods with the label app.kubernetes.io/name of this value may connect."""
    produces: NotRequired[Sequence[str]]
    """Topics that it writes."""
    consumes: NotRequired[Sequence[str]]
    """Topics that it reads, in consumer groups whose names begin with its own."""
    rights: NotRequired[Sequence[Right]]
    """What else it may do, in the terms of Kafka's ACLs."""


class MskSettings(TypedDict):
    """Amazon MSK in place of pods."""

    instance_type: str
    """Instance type of each broker, such as "kafka.m7g.large"."""


class KafkaClusterArgs(ServerArgs):
    """Inputs of a Kafka cluster."""

    image: NotRequired[pulumi.Input[str]]
    """Kafka's image by digest; not needed with `msk`."""
    tasks_image: pulumi.Input[str]
    """Image of the task that makes topics and users, by digest."""
    replicas: NotRequired[int]
    """Brokers: 1, 3 or 5. Default 3."""
    storage: NotRequired[str]
    """Volume of each broker, a Kubernetes quantity. Default "20Gi"."""
    resources: NotRequired[ResourcesArgs]
    """Of each broker."""
    retention_hours: NotRequired[int]
    """For how long events are kept, in hours. Default 168."""
    partitions: NotRequired[int]
    """Partitions of each topic. Default 6."""
    topics: NotRequired[Sequence[KafkaTopicSettings]]
    """Topics to make. A topic that is no longer named stays, with its events."""
    users: NotRequired[Sequence[KafkaUserArgs]]
    """Logins, each with its rights and no others. All other logins lose their passwords and rights."""
    callers: NotRequired[Sequence[str]]
    """Further values of app.kubernetes.io/name whose pods may connect."""
    msk: NotRequired[MskSettings]
    """Amazon MSK in place of pods; needs `site`."""
    site: NotRequired[AwsSiteArgs]
    """Where on AWS MSK runs."""


class KafkaRight(Inputs):
    """An ACL."""

    kind: str = Field(pattern="^(TOPIC|GROUP|CLUSTER|TRANSACTIONAL_ID)$", description="Kind of the resource")
    name: str = Field(min_length=1, description="Name of the resource, or what it begins with")
    pattern: str = Field(pattern="^(LITERAL|PREFIXED)$", description="LITERAL or PREFIXED")
    operation: str = Field(pattern="^[A-Z_]+$", description="READ, WRITE, DESCRIBE, ALL ...")


class KafkaTopicInputs(Inputs):
    """A topic."""

    name: TopicName = Field(description="Lower-case words, digits, dots and hyphens")
    partitions: int | None = Field(default=None, ge=1, le=1000, description="Can only grow; default: the cluster's")
    retention_hours: int | None = Field(
        default=None, ge=1, le=87_600, description="For how long events are kept; default: the cluster's"
    )


class KafkaUser(Inputs):
    """A login."""

    name: DnsLabel = Field(description="The login, and the name of pods that may connect")
    produces: list[TopicName] = Field(default_factory=list[str], description="Topics that it writes")
    consumes: list[TopicName] = Field(default_factory=list[str], description="Topics that it reads")
    rights: list[KafkaRight] = Field(default_factory=list[KafkaRight], description="What else it may do, as ACLs")


class KafkaInputs(Server, Kafka):
    """What `KafkaClusterArgs` may hold."""

    image: AnyText = Field(default="", description="Kafka's image by digest; not needed with msk")
    tasks_image: Text = Field(description="Image of the task that makes topics and users, by digest")
    topics: list[KafkaTopicInputs] = Field(default_factory=list[KafkaTopicInputs], description="Topics to make")
    users: list[KafkaUser] = Field(default_factory=list[KafkaUser], description="Logins, each with its rights")
    callers: list[DnsLabel] = Field(
        default_factory=list[str], description="Further values of app.kubernetes.io/name whose pods may connect"
    )
    site: AwsSite | None = Field(default=None, description="Where on AWS MSK runs")

    @model_validator(mode="after")
    def _runs_somewhere(self) -> Self:
        if self.msk and self.site is None:
            raise violation("with msk, site is required", "add site, or remove msk")
        if not self.msk and not self.image:
            raise violation("without msk, image is required", "add image, by digest")
        return self

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        for field, names in (("topics", self.topics), ("users", self.users)):
            if duplicate := first_duplicate(tuple(one.name for one in names)):
                raise violation(f'names in {field} must be unique; "{duplicate}" occurs twice', "remove one")
        return self
