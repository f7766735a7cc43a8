"""Change data capture: Debezium on Kafka Connect publishes rows of the services' outbox tables to Kafka."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple, NotRequired

import pulumi
from pydantic import Field

from components.base import PlatformComponent, fingerprint
from components.config.base import DnsLabel
from components.config.data import ChangeDataCapture as ChangeDataCaptureConfig
from components.data import log4j
from components.data.credentials import Credentials
from components.data.kafka_access import CAPTURE, CONNECT_PREFIX
from components.data.kafka_cluster import SYSTEM_AUTHORITIES
from components.data.postgres_cluster import DIRECT_PORT
from components.data.server import DataServer, Process, ServerInputs, ServerIntent, task_name
from components.data.task import DataTask, TaskInputs
from components.inputs import ResourcesArgs, Server, ServerArgs, Text, checked

PART = "change-data-capture"
PORT, METRICS_PORT = 8083, 9404
CONNECT = "connect"
"""Login for Kafka Connect's API. Only the setup task uses it."""
_SECRETS = f"/etc/{PART}-secret"
_EXTENSION = "org.apache.kafka.connect.rest.basic.auth.extension"


class ChangeDataCaptureArgs(ServerArgs):
    """Inputs of change data capture. `logins` needs "capture", with its passwords for postgres and kafka."""

    image: pulumi.Input[str]
    """Kafka's image with Debezium's connector, by digest."""
    tasks_image: pulumi.Input[str]
    """Image of the task that makes connectors, by digest."""
    postgres_host: pulumi.Input[str]
    """PostgreSQL's own address, such as `PostgresCluster.direct`."""
    bootstrap: pulumi.Input[str]
    """host:port of the Kafka brokers."""
    authority: NotRequired[pulumi.Input[str]]
    """CA certificate (PEM) of the brokers. Without it: their certificate is from a public CA."""
    brokers: NotRequired[int]
    """Kafka's brokers: up to three keep a copy of the workers' state. Default 3."""
    outboxes: Sequence[str]
    """Databases whose outbox goes to Kafka; each topic is the one that a row names."""
    replicas: NotRequired[int]
    """Connect workers. Default 1."""
    resources: NotRequired[ResourcesArgs]
    """Per worker."""


class ChangeDataCaptureInputs(Server, ChangeDataCaptureConfig):
    """What `ChangeDataCaptureArgs` may hold."""

    image: Text = Field(description="Kafka's image with Debezium's connector, by digest")
    tasks_image: Text = Field(description="Image of the task that makes connectors, by digest")
    postgres_host: Text = Field(description="PostgreSQL's own address")
    bootstrap: Text = Field(description="host:port of Kafka")
    authority: Text | None = Field(default=None, description="The certificate (PEM) that Kafka's are signed with")
    brokers: int = Field(default=3, ge=1, le=100, description="Kafka's brokers")
    outboxes: list[DnsLabel] = Field(description="Databases whose outbox goes to Kafka")


class ChangeDataCaptureResources(NamedTuple):
    """Resources of change data capture."""

    server: DataServer
    """Kafka Connect."""
    provision: DataTask


class ChangeDataCapture(PlatformComponent):
    """Kafka Connect workers, and a connector per database that has an outbox."""

    def __init__(self, name: str, args: ChangeDataCaptureArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(ChangeDataCaptureInputs, self, name, args)
        super().__init__("data", name, {"replicas": inputs.replicas}, opts)
        part = inputs.kubernetes_name
        logins = Credentials(
            self,
            inputs,
            {CAPTURE: ["postgres", "kafka"], CONNECT: [CONNECT]},
            passwords=[CONNECT],
            given=[CAPTURE],
        )
        copies = min(3, inputs.brokers)
        trusted = SYSTEM_AUTHORITIES if inputs.authority is None else f"/etc/{PART}/ca.crt"
        self.server = server = DataServer(
            name,
            ServerIntent(
                name=part,
                title="Kafka Connect",
                folder=PART,
                processes=(
                    Process(
                        PART,
                        inputs.image,
                        inputs.resources,
                        ("connect",),
                        {"http": PORT, "metrics": METRICS_PORT},
                        {"CONFIG": f"/etc/{PART}", "HEAP_PERCENT": "45"},
                        fields={"POD_NAME": "metadata.name"},
                        ready={"exec_": {"command": [*PROBE]}},
                        # Events of an orphaned task's outbox stop until its worker restarts.
                        alive={"exec_": {"command": [*PROBE, ORPHANS]}},
                        alive_s=45,
                        start_s=240,
                    ),
                ),
                callers=(task_name(part),),
                replicas=inputs.replicas,
                metrics_port=METRICS_PORT,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=True,
                files={
                    "connect.properties": pulumi.Output.from_input(inputs.bootstrap).apply(
                        lambda bootstrap: worker(bootstrap, copies, trusted, part)
                    ),
                    "log4j2.yaml": log4j.configuration(ORPHANS),
                    "metrics.yaml": METRICS,
                    "jaas.conf": JAAS,
                    **({} if inputs.authority is None else {"ca.crt": inputs.authority}),
                },
                secret_files={
                    "rest.properties": pulumi.Output.concat(CONNECT, "=", logins.password(CONNECT, CONNECT), "\n")
                },
                mounts=logins.mounts(CAPTURE),
                versions=logins.versions(CAPTURE, CONNECT),
            ),
            self.child(),
        )
        url = server.host.apply(lambda host: f"http://{host}:{PORT}")
        wanted = pulumi.Output.from_input(inputs.postgres_host).apply(
            lambda host: json.dumps({"connectors": connectors(host, inputs.outboxes, part)})
        )
        provision = DataTask(
            f"{name}-provision",
            TaskInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                image=inputs.tasks_image,
                arguments=("capture",),
                part=part,
                environment={"ENDPOINT": url, "PROVISION": wanted},
                mounts=logins.mounts(CONNECT),
                versions=logins.versions(CAPTURE, CONNECT),
            ),
            self.child(),
        )
        self.resources = ChangeDataCaptureResources(server, provision)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": part,
                "probe": "every outbox's connector and its task run",
            }
        )


def prefix(part: str) -> str:
    """What the group and the internal topics of workers begin with. `part` is the workers' name in Kubernetes.

    Workers of another name share neither with the platform's, so that several can use one Kafka.
    """
    return CONNECT_PREFIX if part == PART else f"{CONNECT_PREFIX}{part}-"


def worker(bootstrap: str, copies: int, trusted: str, part: str = PART) -> str:
    """A Connect worker's configuration; `part` is the workers' name in Kubernetes.

    What it keeps lies in topics, so that workers come and go.
    """
    login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    password = f"${{dir:/etc/credentials/{CAPTURE}:kafka}}"
    access = {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": f'{login} username="{CAPTURE}" password="{password}";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": trusted,
    }
    lines = {
        "config.providers": "dir,env",
        "config.providers.dir.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        # Connector configurations may refer to these files and this variable of the worker only.
        "config.providers.dir.param.allowed.paths": f"/etc/credentials/{CAPTURE}",
        "config.providers.env.param.allowlist.pattern": "POD_NAME",
        "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        **access,
        **{f"{side}.{key}": value for side in ("producer", "consumer", "admin") for key, value in access.items()},
        "producer.acks": "all",
        # One request in flight: a retried event is not overtaken by a later one.
        "producer.max.in.flight.requests.per.connection": "1",
        "producer.linger.ms": "5",
        "group.id": f"{prefix(part)}workers",
        **{f"{what}.storage.topic": f"{prefix(part)}{what}" for what in ("config", "offset", "status")},
        **{f"{what}.storage.replication.factor": str(copies) for what in ("config", "offset", "status")},
        "offset.storage.partitions": "5",
        "offset.flush.interval.ms": "5000",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        # Payloads stay text. A converter that parses or builds JSON can fail on valid payloads.
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        # Connectors use the worker's Kafka login only.
        "connector.client.config.override.policy": "None",
        # Workers forward requests to each other, so the port cannot be on loopback. It requires a login.
        # Requests between workers are signed with a key that the group shares.
        "rest.extension.classes": f"{_EXTENSION}.BasicAuthSecurityRestExtension",
        "admin.listeners": "",
        "connect.protocol": "sessioned",
        "listeners": f"http://:{PORT}",
        "rest.advertised.host.name": f"${{env:POD_NAME}}.{part}-nodes",
        # No delay before a lost worker's tasks move: the StatefulSet restarts the pod with the same name.
        "scheduled.rebalance.max.delay.ms": "5000",
        "plugin.discovery": "only_scan",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


def connectors(postgres_host: str, outboxes: Sequence[str], part: str = PART) -> dict[str, dict[str, str]]:
    """Connector configurations by name, one per outbox. A row's aggregatetype is the topic, its aggregateid the key.

    `part` is the workers' name in Kubernetes.
    """
    # A slot of PostgreSQL has one reader, too.
    reader = "" if part == PART else f"_{fingerprint(part)[:8]}"
    return {
        f"outbox-{database}": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": postgres_host,
            "database.port": str(DIRECT_PORT),
            "database.user": CAPTURE,
            "database.password": f"${{dir:/etc/credentials/{CAPTURE}:postgres}}",
            "database.dbname": database,
            "topic.prefix": f"{prefix(part)}{database}",
            "topic.heartbeat.prefix": f"{prefix(part)}heartbeat",
            "topic.creation.default.partitions": "1",
            "topic.creation.default.replication.factor": "-1",
            "heartbeat.interval.ms": "10000",
            # An idle database writes a heartbeat message into the write-ahead log. Without it, the slot of an idle
            # database would retain the log of all databases, until the volume is full. It creates no event.
            "heartbeat.action.query": "SELECT pg_logical_emit_message(true, 'heartbeat', '')",
            "message.prefix.exclude.list": "heartbeat",
            "plugin.name": "pgoutput",
            "publication.name": "outbox",
            "publication.autocreate.mode": "disabled",
            # PostgreSQL takes no hyphen in the name of a slot.
            "slot.name": f"outbox_{database.replace('-', '_')}{reader}",
            "table.include.list": "events.outbox",
            # The connector first publishes existing rows, then follows the log. A restored server lacks the saved log
            # position; the connector then starts again with existing rows.
            "snapshot.mode": "when_needed",
            "tombstones.on.delete": "false",
            "errors.retry.timeout": "-1",
            "retriable.restart.connector.wait.ms": "2000",
            "transforms": "outbox",
            "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
            "transforms.outbox.route.topic.replacement": "${routedByValue}",
            # With "true", Debezium infers a schema for each JSON text, and stops for good at a text that has none, such
            # as an array of arrays with different types.
            "transforms.outbox.table.expand.json.payload": "false",
            "transforms.outbox.table.op.invalid.behavior": "warn",
            # Consumers continue the trace in which the row was written.
            "transforms.outbox.table.fields.additional.placement": "tracingspancontext:header:traceparent",
        }
        for database in outboxes
    }


LOGIN_FILE = f"{_SECRETS}/rest.properties"
PROBE = ("python3", "/opt/kafka/bin/connect_probe.py", str(PORT), LOGIN_FILE)
ORPHANS = "/tmp/orphans"
"""Log file for the worker's errors about tasks that it could not stop in time, as happens when Kafka becomes
unavailable while tasks start. Such a task keeps the replication slot, and neither it nor its successor captures
events."""
JAAS = f"""\
KafkaConnect {{
    {_EXTENSION}.PropertyFileLoginModule required file="{LOGIN_FILE}";
}};
"""
_DEBEZIUM = "debezium.postgres<type=connector-metrics, context=streaming, server=(.+)>"
METRICS = f"""\
lowercaseOutputName: true
includeObjectNames:
  - "debezium.postgres:type=connector-metrics,context=streaming,*"
  - "kafka.connect:type=connector-task-metrics,*"
rules:
  - pattern: "{_DEBEZIUM}<>(MilliSecondsBehindSource|TotalNumberOfEventsSeen)"
    name: debezium_$2
    labels: {{server: "$1"}}
  - pattern: "kafka.connect<type=connector-task-metrics, connector=(.+), task=(.+)><>status: (.+)"
    name: connect_task_status
    value: 1
    labels: {{connector: "$1", status: "$3"}}
"""
