"""Schema registry: Apicurio Registry serves event schemas with Confluent's API and stores them in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired

import pulumi
from pydantic import Field

from components import secret_files
from components.base import PlatformComponent
from components.config.base import DnsLabel
from components.config.data import Compatibility
from components.config.data import SchemaRegistry as SchemaRegistryConfig
from components.data import registry_guard
from components.data.credentials import Credentials
from components.data.postgres_cluster import DIRECT_PORT
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.inputs import LoginArgs, ResourcesArgs, Server, ServerArgs, Text, checked

PART = "schema-registry"
PORT, REGISTRY_PORT, MANAGEMENT_PORT = 8080, 8081, 9000
WRITER = "schemas"
"""Login that registers schemas. Only the setup task uses it."""
_SETTINGS = "/run/registry"
REGISTRY = "registry"
"""The default name of the database, and of the login that owns it."""


class SchemaRegistryArgs(ServerArgs):
    """Inputs of a schema registry. `logins` needs the login that owns the database."""

    image: pulumi.Input[str]
    """Apicurio Registry's image, by digest."""
    guard_image: pulumi.Input[str]
    """Envoy's image, by digest."""
    tasks_image: pulumi.Input[str]
    """Image of the task that registers schemas, by digest."""
    postgres_host: pulumi.Input[str]
    """PostgreSQL's own address, such as `PostgresCluster.direct`."""
    database: NotRequired[str]
    """Database that keeps the schemas; the login of the same name owns it. Default "registry"."""
    replicas: NotRequired[int]
    """Replicas. Default 1."""
    resources: NotRequired[ResourcesArgs]
    """Per replica."""
    compatibility: NotRequired[Compatibility]
    """What a new version of a schema may change. Default "BACKWARD"."""
    schemas: NotRequired[Mapping[str, str]]
    """JSON Schema of the events of each topic; the subject is "<topic>-value"."""
    platform_events: NotRequired[bool]
    """Whether the schemas of CogniForge's own events are registered, too. Default false."""
    callers: NotRequired[Sequence[str]]
    """Values of app.kubernetes.io/name whose pods may read schemas."""


class SchemaRegistryInputs(Server, SchemaRegistryConfig):
    """What `SchemaRegistryArgs` may hold."""

    image: Text = Field(description="Apicurio Registry's image, by digest")
    guard_image: Text = Field(description="Envoy's image, by digest")
    tasks_image: Text = Field(description="Image of the task that registers schemas, by digest")
    postgres_host: Text = Field(description="PostgreSQL's own address")
    database: DnsLabel = Field(default=REGISTRY, description="Database that keeps the schemas, and its login")
    schemas: dict[str, str] = Field(
        default_factory=dict[str, str], description="JSON Schema of the events of each topic"
    )
    platform_events: bool = Field(default=False, description="Register the schemas of CogniForge's own events, too")
    callers: list[DnsLabel] = Field(
        default_factory=list[str], description="Values of app.kubernetes.io/name whose pods may read schemas"
    )


class SchemaRegistryResources(NamedTuple):
    """Resources of a schema registry."""

    server: DataServer
    provision: DataTask


class SchemaRegistry(PlatformComponent):
    """Replicas with a common database, and a setup task that registers all event schemas."""

    url: pulumi.Output[str]
    """URL of Confluent's API. It resolves once all schemas are registered."""
    credentials: dict[str, LoginArgs]
    """The Secrets of the database's login and of the login that registers schemas."""

    def __init__(self, name: str, args: SchemaRegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(SchemaRegistryInputs, self, name, args)
        super().__init__("data", name, {"compatibility": inputs.compatibility.value}, opts)
        part, owner = inputs.kubernetes_name, inputs.database
        logins = Credentials(self, inputs, {owner: ["postgres"], WRITER: [WRITER]}, passwords=[WRITER], given=[owner])
        self.credentials = logins.logins
        database = pulumi.Output.concat("jdbc:postgresql://", inputs.postgres_host, f":{DIRECT_PORT}/{owner}")
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=part,
                title="Apicurio Registry",
                folder=PART,
                processes=(
                    _guard(inputs.guard_image),
                    Process(
                        PART,
                        inputs.image,
                        inputs.resources,
                        (),
                        {"management": MANAGEMENT_PORT},
                        {
                            "APICURIO_STORAGE_KIND": "sql",
                            "APICURIO_STORAGE_SQL_KIND": "postgresql",
                            "APICURIO_DATASOURCE_URL": database,
                            "APICURIO_DATASOURCE_USERNAME": owner,
                            # The image's start.sh writes the password from the first file to the second.
                            "DATABASE_LOGIN_FILE": secret_files.path(owner),
                            "SMALLRYE_CONFIG_LOCATIONS": f"{_SETTINGS}/database.properties",
                            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
                            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
                            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
                            "QUARKUS_LOG_LEVEL": "WARN",
                            "QUARKUS_HTTP_HOST": "127.0.0.1",
                            "QUARKUS_HTTP_PORT": str(REGISTRY_PORT),
                            "QUARKUS_MANAGEMENT_HOST": "0.0.0.0",
                        },
                        {owner: (logins.secret(owner), "postgres")},
                        ready={"http_get": {"path": "/health/ready", "port": "management"}},
                        alive={"http_get": {"path": "/health/live", "port": "management"}},
                        start_s=180,
                    ),
                ),
                callers=(*inputs.callers, task_name(part)),
                replicas=inputs.replicas,
                metrics_port=MANAGEMENT_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=True,
                secret_files={
                    "envoy.json": pulumi.Output.secret(
                        logins.password(WRITER, WRITER).apply(
                            lambda password: json.dumps(registry_guard.render(PORT, REGISTRY_PORT, password))
                        )
                    ),
                },
                versions=logins.versions(owner, WRITER),
                memory=(_SETTINGS,),
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"http://{host}:{PORT}")
        check = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.tasks_image,
                arguments=("registry",),
                part=part,
                environment={"ENDPOINT": url, "PROVISION": json.dumps(provision(inputs))},
                mounts=logins.mounts(WRITER),
                versions=logins.versions(WRITER),
            ),
            self.child(),
        )
        self.resources = SchemaRegistryResources(server, check)
        self.url = pulumi.Output.all(url, check.done).apply(lambda known: f"{known[0]}/apis/ccompat/v7")
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
                "probe": "every event's schema is registered and read back",
            },
            url=self.url,
        )


def provision(inputs: SchemaRegistryInputs) -> dict[str, Any]:
    """What the task registers. Without "schemas" it registers those of the platform's events."""
    asked: dict[str, Any] = {"compatibility": inputs.compatibility.value}
    if inputs.schemas or not inputs.platform_events:
        asked |= {"schemas": inputs.schemas, "platform_events": inputs.platform_events}
    return asked


def _guard(image: pulumi.Input[str]) -> Process:
    file = f"/etc/{PART}-secret/envoy.json"
    return Process(
        "guard",
        image,
        registry_guard.RESOURCES,
        ("--config-path", file, "--log-level", "warning", "--concurrency", "1", "--disable-hot-restart"),
        {"http": PORT},
        ready={"tcp_socket": {"port": "http"}},
    )
