"""Kafka in KRaft mode: brokers with TLS and SCRAM logins, and one resource per topic and per login."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from typing import Any, NamedTuple

import pulumi

from components.base import PlatformComponent, fingerprint
from components.cluster.aws_site import outlet
from components.config.base import Resources
from components.config.data import Kafka
from components.data import kafka_access, log4j
from components.data.credentials import Credentials
from components.data.kafka_access import KafkaAccess
from components.data.kafka_inputs import KafkaClusterArgs, KafkaInputs
from components.data.kafka_topic import KafkaTopic
from components.data.msk import PORT as MSK_PORT
from components.data.msk import Msk
from components.data.server import (
    DATA_MOUNT,
    DataServer,
    Process,
    ServerInputs,
    ServerIntent,
    service_account,
    task_name,
)
from components.data.task import DataTask, TaskInputs
from components.data.zone import zone_reader
from components.inputs import LoginArgs, checked
from components.security.certificate import Certificate

PART = "kafka"
CLIENT_PORT, CONTROLLER_PORT, PEER_PORT, METRICS_PORT = 9092, 9093, 9094, 9404
OWNER = "brokers"
"""Superuser login on MSK, whose brokers do not use our certificate. Only setup tasks use it."""
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""File with the CA certificates in the images. One of them signs MSK's certificates."""


class KafkaClusterResources(NamedTuple):
    """Resources of a Kafka cluster."""

    server: DataServer | None
    """Brokers in pods."""
    certificate: Certificate | None
    """Of brokers in pods."""
    msk: Msk | None
    """Brokers at MSK."""
    provision: DataTask
    """Makes topics, logins and rights."""


class KafkaCluster(PlatformComponent):
    """Brokers, their certificate, topics, logins, and a check that writes and reads an event."""

    bootstrap: pulumi.Output[str]
    """host:port for clients. It resolves once topics and ACLs exist and the check has passed."""
    authority: pulumi.Output[str] | None
    """CA certificate (PEM) for clients. None: the brokers' certificate is from a public CA."""
    credentials: dict[str, LoginArgs]
    """The Secret of each login, whose entry "kafka" is the password."""
    server: DataServer | None
    topics: dict[str, KafkaTopic]
    """By name."""
    access: dict[str, KafkaAccess]
    """By login."""

    def __init__(self, name: str, args: KafkaClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(KafkaInputs, self, name, args)
        super().__init__("data", name, {"replicas": inputs.replicas}, opts)
        self.authority, self.server = None, None
        self._certificate: Certificate | None = None
        self._msk: Msk | None = None
        part = inputs.kubernetes_name
        self.topics = {
            topic.name: KafkaTopic(
                f"{name}-topic-{topic.name}",
                {
                    "namespace": inputs.namespace,
                    "cluster": part,
                    "topic": topic.name,
                    "brokers": inputs.replicas,
                    "partitions": topic.partitions or inputs.partitions,
                    "retention_hours": topic.retention_hours or inputs.retention_hours,
                },
                self.child(),
            )
            for topic in inputs.topics
        }
        self.access = {
            user.name: KafkaAccess(
                f"{name}-access-{user.name}",
                {
                    "namespace": inputs.namespace,
                    "cluster": part,
                    "login": user.name,
                    "rights": kafka_access.rights(user),
                },
                self.child(),
            )
            for user in inputs.users
        }
        owner = [OWNER] if inputs.msk else []
        self._logins = Credentials(
            self,
            inputs,
            {login: ["kafka"] for login in (*owner, *self.access)},
            passwords=[*owner, *self.access] if inputs.msk else [],
        )
        self.credentials = self._logins.logins
        bootstrap, task = self._at_msk() if inputs.msk else self._in_pods()
        check = DataTask(f"{name}-provision", task, self.child())
        self.resources = KafkaClusterResources(self.server, self._certificate, self._msk, check)
        self.bootstrap = pulumi.Output.all(bootstrap, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "Job" if inputs.msk else "StatefulSet",
                "namespace": inputs.namespace,
                "name": check.done if inputs.msk else part,
                "probe": "an event is written with all replicas' word for it, and read",
            },
            bootstrap=self.bootstrap,
        )

    def _at_msk(self) -> tuple[pulumi.Output[str], TaskInputs]:
        """Amazon MSK runs the brokers and manages the users. The setup task manages topics and ACLs."""
        inputs, logins = self._inputs, self._logins
        part, site = inputs.kubernetes_name, inputs.site
        assert site is not None  # the inputs are refused without
        self._msk = msk = Msk(
            self.name,
            inputs,
            {
                "site": site,
                "users": {user: logins.password(user, "kafka") for user in (OWNER, *self.access)},
                "destroy_data": inputs.destroy_data,
            },
            self.child(),
        )
        service_account(f"{self.name}-task", inputs.namespace, task_name(part), self.child())
        pods = (task_name(part), *inputs.callers, *self.access)
        target = (site.network, MSK_PORT)
        outlet(f"{self.name}-outlet", (inputs.namespace, f"{part}-outlet"), pods, target, self.child())
        made = self._task(msk.bootstrap, msk.bootstrap)
        mounts = {**made.mounts, **logins.mounts(OWNER)}
        environment = {**made.environment, "OWNER": OWNER, "AUTHORITY": SYSTEM_AUTHORITIES}
        return msk.bootstrap, dataclasses.replace(made, mounts=mounts, environment=environment)

    def _task(self, endpoint: pulumi.Input[str], clients: pulumi.Input[str]) -> TaskInputs:
        """Setup task for topics and ACLs, which is the same on MSK and in pods."""
        inputs = self._inputs
        return TaskInputs(
            namespace=inputs.namespace,
            customize=inputs.pods,
            image=inputs.tasks_image,
            arguments=("kafka",),
            part=inputs.kubernetes_name,
            environment={"ENDPOINT": endpoint, "CLIENTS": clients},
            mounts=self._logins.mounts(*self.access),
            documents=tuple(one.document for one in (*self.topics.values(), *self.access.values())),
            versions=self._logins.versions(*self.access),
        )

    def _in_pods(self) -> tuple[pulumi.Output[str], TaskInputs]:
        """Brokers in pods, with volumes and the platform's own certificate."""
        inputs, part = self._inputs, self._inputs.kubernetes_name
        self._certificate = certificate = Certificate(
            f"{self.name}-certificate",
            {
                "namespace": inputs.namespace,
                # Its holders are superusers: the brokers, and the setup task.
                "secret_name": f"{part}-tls",
                "hosts": hosts(part, inputs.namespace),
                "client": True,
            },
            self.child(),
        )
        self.authority = certificate.authority
        self.server = DataServer(
            self.name,
            ServerIntent(
                name=part,
                title="Kafka",
                folder=PART,
                processes=(_broker(inputs),),
                callers=(*self.access, *inputs.callers, task_name(part)),
                inner={"controller": (), "peers": (task_name(part),)},
                prepares=(_zone(inputs),) if inputs.replicas > 1 else (),
                replicas=inputs.replicas,
                storage=inputs.storage,
                metrics_port=METRICS_PORT,
                # When all brokers stop, the last one cannot hand over leadership, and waits until it is killed.
                stop_seconds=60,
            ),
            ServerInputs(
                namespace=inputs.namespace,
                customize=inputs.pods,
                destroy_data=inputs.destroy_data,
                files={
                    "broker.properties": pulumi.Output.from_input(inputs.namespace).apply(
                        lambda namespace: properties(inputs, part, namespace)
                    ),
                    "log4j2.yaml": log4j.configuration(),
                    "metrics.yaml": METRICS,
                },
                mounts={"/etc/tls": certificate.secret_name},
                versions=[certificate.authority.apply(fingerprint)],
            ),
            self.child(),
        )
        if inputs.replicas > 1:
            zone_reader(self.name, inputs.namespace, part, self.child())
        bootstrap = self.server.host.apply(lambda host: f"{host}:{CLIENT_PORT}")
        peers = self.server.host.apply(lambda host: f"{host}:{PEER_PORT}")
        made = self._task(peers, bootstrap)
        return bootstrap, dataclasses.replace(made, mounts={**made.mounts, "/etc/tls": certificate.secret_name})


def _broker(inputs: KafkaInputs) -> Process:
    part, namespace = inputs.kubernetes_name, pulumi.Output.from_input(inputs.namespace)
    ports = {"kafka": CLIENT_PORT, "controller": CONTROLLER_PORT, "peers": PEER_PORT, "metrics": METRICS_PORT}
    return Process(
        PART,
        inputs.image,
        inputs.resources,
        ("broker",),
        ports,
        {
            "CLUSTER_ID": namespace.apply(lambda found: cluster_id(part, found)),
            "CONFIG": f"/etc/{PART}",
            "NODES": pulumi.Output.concat(f"{part}-nodes.", namespace, f".svc:{PEER_PORT}"),
        },
        # A broker is ready when its replicas are in sync, so a rolling restart waits for that. Catching up may take
        # long and must not cause a restart, so liveness is another probe.
        started=asking("started"),
        ready=asking("ready"),
        alive={"tcp_socket": {"port": "kafka"}},
        start_s=180,
    )


def _zone(inputs: KafkaInputs) -> Process:
    """Init process that finds the zone of the pod's node, which becomes the broker's rack."""
    resources, script = Resources(cpu="20m", memory="64Mi"), ("zone", "/tmp/zone")
    return Process("zone", inputs.image, resources, script, fields={"NODE_NAME": "spec.nodeName"})


def asking(question: str) -> Any:
    """Probe action that evaluates the broker's own metrics."""
    return {"exec_": {"command": ["python3", "/opt/kafka/bin/probe.py", question, str(METRICS_PORT)]}}


def hosts(part: str, namespace: pulumi.Input[str]) -> list[pulumi.Input[str]]:
    """Names in the brokers' certificate. Brokers use the first one among themselves."""
    return [
        part,
        pulumi.Output.concat(f"{part}.", namespace, ".svc"),
        pulumi.Output.concat(f"*.{part}-nodes.", namespace, ".svc"),
    ]


def cluster_id(part: str, namespace: str) -> str:
    """Kafka cluster id: 16 bytes in base64. Brokers refuse volumes of another cluster by it. It is not secret."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{part}.{namespace}".encode()).digest()[:16]).decode().rstrip("=")


def properties(config: Kafka, part: str, namespace: str) -> str:
    """Configuration of a broker. Kafka itself replaces ${env:...} and ${dir:...} when it starts."""
    nodes = f"{part}-nodes.{namespace}.svc"
    voters = ",".join(f"{n}@{part}-{n}.{nodes}:{CONTROLLER_PORT}" for n in range(config.replicas))
    copies = min(3, config.replicas)
    own = f"{part}-${{env:NODE_ID}}.{nodes}"
    lines = {
        "config.providers": "env,dir",
        "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        "config.providers.dir.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        "process.roles": "broker,controller",
        "node.id": "${env:NODE_ID}",
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://:{CLIENT_PORT},CONTROLLER://:{CONTROLLER_PORT},PEERS://:{PEER_PORT}",
        "advertised.listeners": f"CLIENT://{own}:{CLIENT_PORT},PEERS://{own}:{PEER_PORT}",
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:SSL,PEERS:SSL",
        "inter.broker.listener.name": "PEERS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "listener.name.peers.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": "${dir:/etc/tls:tls.key}",
        "ssl.keystore.certificate.chain": "${dir:/etc/tls:tls.crt}",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": "${dir:/etc/tls:ca.crt}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Brokers authenticate each other with their certificate. The TLS library decides the order of the name's parts.
        "super.users": f"User:CN={part},O=CogniForge;User:O=CogniForge,CN={part}",
        "allow.everyone.if.no.acl.found": "false",
        "auto.create.topics.enable": "false",
        "log.dirs": f"{DATA_MOUNT}/log",
        "num.partitions": str(config.partitions),
        "default.replication.factor": str(copies),
        "min.insync.replicas": str(max(1, copies - 1)),
        "offsets.topic.replication.factor": str(copies),
        "offsets.topic.num.partitions": "10",
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": str(max(1, copies - 1)),
        "transaction.state.log.num.partitions": "10",
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": str(max(1, copies - 1)),
        "unclean.leader.election.enable": "false",
        "log.retention.hours": str(config.retention_hours),
        "log.segment.bytes": str(128 * 2**20),
        "broker.rack": "${env:RACK}",
        "controlled.shutdown.enable": "true",
        "group.initial.rebalance.delay.ms": "500",
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items())


METRICS = """\
lowercaseOutputName: true
includeObjectNames:
  - "kafka.server:type=KafkaServer,name=BrokerState"
  - "kafka.server:type=ReplicaManager,name=*"
  - "kafka.server:type=ReplicaFetcherManager,name=MaxLag,clientId=*"
  - "kafka.server:type=BrokerTopicMetrics,name=*"
  - "kafka.controller:type=KafkaController,name=*"
  - "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=*"
  - "kafka.log:type=Log,name=Size,*"
  - "java.lang:type=Memory"
rules:
  - pattern: "kafka.server<type=KafkaServer, name=BrokerState><>Value"
    name: kafka_broker_state
  - pattern: "kafka.server<type=ReplicaManager, name=(.+)><>(Value|Count)"
    name: kafka_replica_manager_$1
  - pattern: "kafka.server<type=ReplicaFetcherManager, name=MaxLag, clientId=(.+)><>Value"
    name: kafka_replica_fetcher_max_lag
    labels: {client: "$1"}
  - pattern: "kafka.server<type=BrokerTopicMetrics, name=(.+), topic=(.+)><>Count"
    name: kafka_topic_$1_total
    labels: {topic: "$2"}
  - pattern: "kafka.controller<type=KafkaController, name=(.+)><>Value"
    name: kafka_controller_$1
  - pattern: "kafka.network<type=RequestMetrics, name=TotalTimeMs, request=(.+)><>99thPercentile"
    name: kafka_request_p99_milliseconds
    labels: {request: "$1"}
  - pattern: "kafka.log<type=Log, name=Size, topic=(.+), partition=(.+)><>Value"
    name: kafka_log_size_bytes
    labels: {topic: "$1", partition: "$2"}
  - pattern: "java.lang<type=Memory><HeapMemoryUsage>used"
    name: jvm_heap_used_bytes
"""
