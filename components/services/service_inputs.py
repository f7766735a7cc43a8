"""Inputs of a service in a program of one's own. Each limit is that of `services.custom` in the stack file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.config.base import ObjectName, Resources
from components.config.custom import SecretEntry, SecretsIn, Variable
from components.config.custom import Service as ServiceConfig
from components.config.problems import violation
from components.inputs import Inputs, Login, LoginArgs, Port, ResourcesArgs, Text, same_as
from components.pods import CustomizeArgs


class SecretEntryArgs(TypedDict):
    """An entry of a Secret in the service's namespace."""

    secret: str
    """Name of the Secret."""
    entry: str
    """Key of the entry."""


class PostgresConnectionArgs(TypedDict):
    """A database of the service's name. `PostgresCluster` gives these values."""

    host: pulumi.Input[str]
    """DNS name of the connection pool."""
    direct: NotRequired[pulumi.Input[str]]
    """DNS name of the server itself. Default: the pool's."""
    login: LoginArgs
    """The login of the service's name."""


class KafkaConnectionArgs(TypedDict):
    """Topics. `KafkaCluster` gives these values."""

    bootstrap: pulumi.Input[str]
    """host:port of the brokers."""
    authority: NotRequired[pulumi.Input[str]]
    """CA certificate (PEM) of the brokers. Default: their certificate is from a public CA."""
    login: LoginArgs
    """The login of the service's name."""


class ServerConnectionArgs(TypedDict):
    """A server with a URL. `Nats` and `Cache` give these values."""

    url: pulumi.Input[str]
    """URL without credentials."""
    login: LoginArgs
    """The login of the service's name."""


class ObjectsConnectionArgs(TypedDict):
    """Buckets. `ObjectStore` gives these values."""

    endpoint: pulumi.Input[str]
    """URL of the S3 API."""
    login: NotRequired[LoginArgs]
    """The login of the service's name. Default: pods authenticate with an AWS role."""
    place: NotRequired[Mapping[str, pulumi.Input[str]]]
    """PREFIX of the buckets' names and REGION, where they are not the default."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """What the service account carries, such as its AWS role."""


class ServiceArgs(CustomizeArgs):
    """Inputs of a service."""

    namespace: pulumi.Input[str]
    """Namespace in Kubernetes."""
    kubernetes_name: NotRequired[str]
    """Name of the service's objects in Kubernetes. Default: the component's name."""
    image: pulumi.Input[str]
    """Image of the service, by digest."""
    replicas: NotRequired[int]
    """Number of replicas. Default 1."""
    resources: NotRequired[ResourcesArgs]
    """Of each replica."""
    port: NotRequired[int]
    """TCP port of the REST API, health checks and metrics. Default 8080."""
    ready_path: NotRequired[str]
    """Path that answers 200 when the service takes requests. Default "/readyz"."""
    live_path: NotRequired[str]
    """Path that answers 200 as long as the service need not be restarted. Default "/healthz"."""
    metrics: NotRequired[bool]
    """Whether the service shows metrics for Prometheus at /metrics of its port. Default true."""
    callers: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods may connect, such as "gateway". Default: none."""
    rpc_port: NotRequired[int]
    """TCP port of gRPC. Used with `rpc_callers`. Default 9090."""
    rpc_callers: NotRequired[Sequence[str]]
    """Service accounts that may call the service over gRPC, with tokens for it. Default: none; no gRPC is served."""
    asks: NotRequired[Sequence[str]]
    """Services that it calls over gRPC. It gets a token for each. Default: none."""
    egress: NotRequired[Sequence[int]]
    """TCP ports on which it connects to addresses outside the cluster. Default: none."""
    environment: NotRequired[Mapping[str, str]]
    """Environment variables of its own."""
    secrets: NotRequired[Mapping[str, SecretEntryArgs]]
    """Secrets from entries of Secrets, by name. Default: none."""
    secrets_in: NotRequired[SecretsIn]
    """Whether its secrets and passwords are files in /var/run/secrets/service, or environment variables. Default
    "files"."""
    migrate: NotRequired[Sequence[str]]
    """Command that brings its tables up to date before each start. Default: none runs."""
    scratch_mib: NotRequired[int]
    """Size of /tmp in MiB. Default 64."""
    postgres: NotRequired[PostgresConnectionArgs]
    """Its database."""
    kafka: NotRequired[KafkaConnectionArgs]
    """Its topics."""
    nats: NotRequired[ServerConnectionArgs]
    """Its subjects and key-value buckets."""
    cache: NotRequired[ServerConnectionArgs]
    """Its keys in the cache."""
    objects: NotRequired[ObjectsConnectionArgs]
    """Its buckets."""


class PostgresConnection(Inputs):
    """A database."""

    host: Text = Field(description="DNS name of the connection pool")
    direct: Text | None = Field(default=None, description="DNS name of the server itself")
    login: Login = Field(description="The login of the service's name")


class KafkaConnection(Inputs):
    """Topics."""

    bootstrap: Text = Field(description="host:port of the brokers")
    authority: Text | None = Field(default=None, description="CA certificate (PEM) of the brokers")
    login: Login = Field(description="The login of the service's name")


class ServerConnection(Inputs):
    """A server with a URL."""

    url: Text = Field(description="URL without credentials")
    login: Login = Field(description="The login of the service's name")


class ObjectsConnection(Inputs):
    """Buckets."""

    endpoint: Text = Field(description="URL of the S3 API")
    login: Login | None = Field(default=None, description="The login of the service's name")
    place: dict[str, Text] = Field(default_factory=dict[str, Any], description="PREFIX and REGION of the buckets")
    annotations: dict[str, Text] = Field(default_factory=dict[str, Any], description="What the account carries")


class ServiceInputs(Inputs):
    """What `ServiceArgs` may hold."""

    namespace: Text = Field(description="Namespace in Kubernetes")
    kubernetes_name: ObjectName = Field(default="", max_length=40, description="Name of its objects in Kubernetes")
    image: Text = Field(description="Image of the service, by digest")
    replicas: int = same_as(ServiceConfig, "replicas")
    resources: Resources = same_as(ServiceConfig, "resources")
    port: int = same_as(ServiceConfig, "port")
    ready_path: str = same_as(ServiceConfig, "ready_path")
    live_path: str = same_as(ServiceConfig, "live_path")
    metrics: bool = same_as(ServiceConfig, "metrics")
    callers: list[ObjectName] = Field(default_factory=list[str], description="Pods that may connect")
    rpc_port: int = same_as(ServiceConfig, "rpc_port")
    rpc_callers: list[ObjectName] = Field(default_factory=list[str], description="Who may call it over gRPC")
    asks: list[ObjectName] = Field(default_factory=list[str], description="Services that it calls over gRPC")
    egress: list[Port] = Field(default_factory=list[int], max_length=20, description="TCP ports outside the cluster")
    environment: dict[Variable, str] = same_as(ServiceConfig, "environment")
    secrets: dict[Variable, SecretEntry] = same_as(ServiceConfig, "secrets")
    secrets_in: SecretsIn = same_as(ServiceConfig, "secrets_in")
    migrate: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list[str], max_length=50, description="Command that brings its tables up to date"
    )
    scratch_mib: int = same_as(ServiceConfig, "scratch_mib")
    postgres: PostgresConnection | None = Field(default=None, description="Its database")
    kafka: KafkaConnection | None = Field(default=None, description="Its topics")
    nats: ServerConnection | None = Field(default=None, description="Its subjects and key-value buckets")
    cache: ServerConnection | None = Field(default=None, description="Its keys in the cache")
    objects: ObjectsConnection | None = Field(default=None, description="Its buckets")
    customize: Any = Field(default=None, description="Settings of the pods")

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.rpc_callers and self.port == self.rpc_port:
            raise violation("port and rpc_port must differ", "change one of them")
        return self

    def section(self) -> ServiceConfig:
        """The service, as in the stack file."""
        own = {"replicas", "resources", "port", "rpc_port", "ready_path", "live_path", "metrics", "environment"}
        own |= {"secrets", "secrets_in", "scratch_mib"}
        found: dict[str, Any] = {name: getattr(self, name) for name in own}
        found |= {"callers": tuple(self.callers), "asks": tuple(self.asks), "egress": tuple(self.egress)}
        return ServiceConfig.model_construct(**found)
