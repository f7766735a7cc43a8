"""Schema registry: Apicurio Registry serves event schemas with Confluent's API and stores them in PostgreSQL."""

from __future__ import annotations

import json
from typing import NamedTuple

import pulumi

from components.base import PlatformComponent
from components.config.data import SchemaRegistry as SchemaRegistryConfig
from components.data import registry_guard
from components.data.postgres_cluster import DIRECT_PORT, REGISTRY
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.pods import CustomizeArgs
from components.security.logins import Logins
from components.services.registry import SERVICES

PART = "schema-registry"
PORT, REGISTRY_PORT, MANAGEMENT_PORT = 8080, 8081, 9000
WRITER = "schemas"
"""Login that registers schemas. Only the setup task uses it."""


class SchemaRegistryArgs(CustomizeArgs):
    """Inputs of a schema registry."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    guard_image: pulumi.Input[str]
    """Envoy."""
    tasks_image: pulumi.Input[str]
    """Image that contains the kit, and with it the schemas."""
    logins: Logins
    postgres_host: pulumi.Input[str]


class SchemaRegistryResources(NamedTuple):
    """Resources of a schema registry."""

    server: DataServer
    provision: DataTask


class SchemaRegistry(PlatformComponent):
    """Replicas with a common database, and a setup task that registers all event schemas."""

    url: pulumi.Output[str]
    """URL of Confluent's API. It resolves once all schemas are registered."""

    def __init__(
        self,
        name: str,
        config: SchemaRegistryConfig,
        args: SchemaRegistryArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("data", name, {"compatibility": config.compatibility.value}, opts)
        logins = args["logins"]
        database = pulumi.Output.concat("jdbc:postgresql://", args["postgres_host"], f":{DIRECT_PORT}/{REGISTRY}")
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="Apicurio Registry",
                processes=(
                    _guard(args["guard_image"]),
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        (),
                        {"management": MANAGEMENT_PORT},
                        {
                            "APICURIO_STORAGE_KIND": "sql",
                            "APICURIO_STORAGE_SQL_KIND": "postgresql",
                            "APICURIO_DATASOURCE_URL": database,
                            "APICURIO_DATASOURCE_USERNAME": REGISTRY,
                            "APICURIO_DATASOURCE_JDBC_MAX_SIZE": "10",
                            "APICURIO_DATASOURCE_JDBC_INITIAL_SIZE": "1",
                            "APICURIO_DATASOURCE_JDBC_MIN_SIZE": "1",
                            "QUARKUS_LOG_LEVEL": "WARN",
                            "QUARKUS_HTTP_HOST": "127.0.0.1",
                            "QUARKUS_HTTP_PORT": str(REGISTRY_PORT),
                            "QUARKUS_MANAGEMENT_HOST": "0.0.0.0",
                        },
                        {"APICURIO_DATASOURCE_PASSWORD": (logins.secret(REGISTRY), "postgres")},
                        ready={"http_get": {"path": "/health/ready", "port": "management"}},
                        alive={"http_get": {"path": "/health/live", "port": "management"}},
                        start_s=180,
                    ),
                ),
                callers=(*(s.name for s in SERVICES.values() if s.produces or s.consumes), task_name(PART)),
                replicas=config.replicas,
                metrics_port=MANAGEMENT_PORT,
            ),
            ServerInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                destroy_data=True,
                secret_files={
                    "envoy.json": pulumi.Output.secret(
                        logins.password(WRITER, WRITER).apply(
                            lambda password: json.dumps(registry_guard.render(PORT, REGISTRY_PORT, password))
                        )
                    )
                },
                versions=[logins.versions[REGISTRY], logins.versions[WRITER]],
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"http://{host}:{PORT}")
        check = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=args["namespace"],
                customize=args.get("customize", {}),
                image=args["tasks_image"],
                arguments=("registry",),
                part=PART,
                environment={
                    "ENDPOINT": url,
                    "PROVISION": json.dumps({"compatibility": config.compatibility.value}),
                },
                mounts={f"/etc/credentials/{WRITER}": logins.secret(WRITER)},
                versions=(logins.versions[WRITER],),
            ),
            self.child(),
        )
        self.url = pulumi.Output.all(url, check.done).apply(lambda known: f"{known[0]}/apis/ccompat/v7")
        self.resources = SchemaRegistryResources(server, check)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": args["namespace"],
                "name": PART,
                "probe": "every event's schema is registered and read back",
            },
            url=self.url,
        )


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
