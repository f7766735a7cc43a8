"""Kafka in KRaft mode: brokers with TLS and SCRAM logins, and one resource per topic and per login."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any, NamedTuple

import pulumi

from components.base import PlatformComponent
from components.cluster.aws_site import AwsSite, outlet
from components.config.base import Resources
from components.config.data import Kafka
from components.data import kafka_access, log4j
from components.data.kafka_access import KafkaAccess
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
from components.pods import CustomizeArgs
from components.security.certificate import Certificate
from components.security.logins import Logins
from components.services.registry import topics

PART = "kafka"
CLIENT_PORT, CONTROLLER_PORT, PEER_PORT, METRICS_PORT = 9092, 9093, 9094, 9404
TLS_SECRET = "kafka-tls"
"""Secret with the brokers' certificate. Its holders are superusers: the brokers, and the setup tasks."""
OWNER = "brokers"
"""Superuser login on MSK, whose brokers do not use our certificate. Only setup tasks use it."""
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""File with the CA certificates in the images. One of them signs MSK's certificates."""


class KafkaClusterArgs(CustomizeArgs):
    """Inputs of a Kafka cluster."""

    namespace: str
    image: pulumi.Input[str]
    tasks_image: pulumi.Input[str]
    """Image that contains the kit."""
    logins: Logins
    capture: bool
    """Whether change data capture writes to the cluster."""
    site: AwsSite | None
    """Network of the MSK cluster; required with `msk` in the configuration."""
    destroy_data: bool


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
    server: DataServer | None
    topics: dict[str, KafkaTopic]
    """Topics by name, derived from what services produce."""
    access: dict[str, KafkaAccess]
    """ACLs by login, derived from what services produce and consume."""

    def __init__(
        self, name: str, config: Kafka, args: KafkaClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"replicas": config.replicas}, opts)
        self.authority, self.server = None, None
        self._certificate: Certificate | None = None
        self._msk: Msk | None = None
        namespace, rights = args["namespace"], kafka_access.logins(args["capture"])
        self.topics = {
            topic: KafkaTopic(f"{name}-topic-{topic}", config, {"namespace": namespace, "topic": topic}, self.child())
            for topic in topics()
        }
        self.access = {
            login: KafkaAccess(
                f"{name}-access-{login}",
                {"namespace": namespace, "login": login, "rights": rights[login]},
                self.child(),
            )
            for login in rights
        }
        bootstrap, task = self._at_msk(config, args) if config.msk else self._in_pods(config, args)
        check = DataTask(f"{name}-provision", task, self.child())
        self.resources = KafkaClusterResources(self.server, self._certificate, self._msk, check)
        self.bootstrap = pulumi.Output.all(bootstrap, check.done).apply(lambda known: known[0])
        self.finish(
            {
                "kind": "Job" if config.msk else "StatefulSet",
                "namespace": args["namespace"],
                "name": check.done if config.msk else PART,
                "probe": "an event is written with all replicas' word for it, and read",
            },
            bootstrap=self.bootstrap,
        )

    def _at_msk(self, config: Kafka, args: KafkaClusterArgs) -> tuple[pulumi.Output[str], TaskInputs]:
        """Amazon MSK runs the brokers and manages the users. The setup task manages topics and ACLs."""
        site, logins, task = args["site"], args["logins"], task_name(PART)
        assert site is not None  # the configuration takes msk with a cluster on AWS only
        self._msk = msk = Msk(
            self.name,
            config,
            {
                "site": site,
                "users": {user: logins.password(user, "kafka") for user in (OWNER, *self.access)},
                "destroy_data": args["destroy_data"],
            },
            self.child(providers={"aws": site.provider}),
        )
        service_account(f"{self.name}-task", args["namespace"], task, self.child())
        pods = (task, "change-data-capture", *self.access)
        outlet(
            f"{self.name}-outlet", (args["namespace"], f"{PART}-outlet"), pods, (site.network, MSK_PORT), self.child()
        )
        inputs = self._task(args, msk.bootstrap, msk.bootstrap)
        mounts = {**inputs.mounts, f"/etc/credentials/{OWNER}": logins.secret(OWNER)}
        environment = {**inputs.environment, "OWNER": OWNER, "AUTHORITY": SYSTEM_AUTHORITIES}
        return msk.bootstrap, dataclasses.replace(inputs, mounts=mounts, environment=environment)

    def _task(self, args: KafkaClusterArgs, endpoint: pulumi.Input[str], clients: pulumi.Input[str]) -> TaskInputs:
        """Setup task for topics and ACLs, which is the same on MSK and in pods."""
        logins = args["logins"]
        return TaskInputs(
            namespace=args["namespace"],
            customize=args.get("customize", {}),
            image=args["tasks_image"],
            arguments=("kafka",),
            part=PART,
            environment={
                "ENDPOINT": endpoint,
                "CLIENTS": clients,
                # Logins that are not declared lose their ACLs and passwords.
                "LOGINS": json.dumps(kafka_access.every_login()),
            },
            mounts={f"/etc/credentials/{user}": logins.secret(user) for user in self.access},
            documents=tuple(one.document for one in (*self.topics.values(), *self.access.values())),
            versions=tuple(logins.versions[user] for user in self.access),
        )

    def _in_pods(self, config: Kafka, args: KafkaClusterArgs) -> tuple[pulumi.Output[str], TaskInputs]:
        """Brokers in pods, with volumes and the platform's own certificate."""
        namespace = args["namespace"]
        self._certificate = certificate = Certificate(
            f"{self.name}-certificate",
            {"namespace": namespace, "secret_name": TLS_SECRET, "hosts": hosts(namespace), "client": True},
            self.child(),
        )
        self.authority = certificate.authority
        self.server = DataServer(
            self.name,
            ServerIntent(
                name=PART,
                title="Kafka",
                processes=(_broker(config, args),),
                callers=(*self.access, "change-data-capture", task_name(PART)),
                prepares=(_zone(args),) if config.replicas > 1 else (),
                replicas=config.replicas,
                storage=config.storage,
                metrics_port=METRICS_PORT,
                # When all brokers stop, the last one cannot hand over leadership, and waits until it is killed.
                stop_seconds=60,
            ),
            ServerInputs(
                namespace=namespace,
                customize=args.get("customize", {}),
                destroy_data=args["destroy_data"],
                files={
                    "broker.properties": properties(config, namespace),
                    "log4j2.yaml": log4j.configuration(),
                    "metrics.yaml": METRICS,
                },
                mounts={"/etc/tls": certificate.secret_name},
                versions=[certificate.authority.apply(_fingerprint)],
            ),
            self.child(),
        )
        if config.replicas > 1:
            zone_reader(self.name, namespace, PART, self.child())
        bootstrap = self.server.host.apply(lambda host: f"{host}:{CLIENT_PORT}")
        peers = self.server.host.apply(lambda host: f"{host}:{PEER_PORT}")
        inputs = self._task(args, peers, bootstrap)
        mounts = {**inputs.mounts, "/etc/tls": certificate.secret_name}
        return bootstrap, dataclasses.replace(inputs, mounts=mounts)


def _broker(config: Kafka, args: KafkaClusterArgs) -> Process:
    ports = {"kafka": CLIENT_PORT, "controller": CONTROLLER_PORT, "peers": PEER_PORT, "metrics": METRICS_PORT}
    return Process(
        PART,
        args["image"],
        config.resources,
        ("broker",),
        ports,
        {
            "CLUSTER_ID": cluster_id(args["namespace"]),
            "CONFIG": f"/etc/{PART}",
            "NODES": f"{PART}-nodes.{args['namespace']}.svc:{PEER_PORT}",
        },
        # A broker is ready when its replicas are in sync, so a rolling restart waits for that. Catching up may take
        # long and must not cause a restart, so liveness is another probe.
        started=asking("started"),
        ready=asking("ready"),
        alive={"tcp_socket": {"port": "kafka"}},
        start_s=180,
    )


def _zone(args: KafkaClusterArgs) -> Process:
    """Init process that finds the zone of the pod's node, which becomes the broker's rack."""
    script = ("zone", "/tmp/zone")
    return Process(
        "zone", args["image"], Resources(cpu="20m", memory="64Mi"), script, fields={"NODE_NAME": "spec.nodeName"}
    )


def asking(question: str) -> Any:
    """Probe action that evaluates the broker's own metrics."""
    return {"exec_": {"command": ["python3", "/opt/kafka/bin/probe.py", question, str(METRICS_PORT)]}}


def hosts(namespace: str) -> list[str]:
    """Names in the brokers' certificate. Brokers use the first one among themselves."""
    return [PART, f"{PART}.{namespace}.svc", f"*.{PART}-nodes.{namespace}.svc"]


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cluster_id(namespace: str) -> str:
    """Kafka cluster id: 16 bytes in base64. Brokers refuse volumes of another cluster by it. It is not secret."""
    return base64.urlsafe_b64encode(hashlib.sha256(f"{PART}.{namespace}".encode()).digest()[:16]).decode().rstrip("=")


def properties(config: Kafka, namespace: str) -> str:
    """Configuration of a broker. Kafka itself replaces ${env:...} and ${dir:...} when it starts."""
    voters = ",".join(f"{n}@{PART}-{n}.{PART}-nodes.{namespace}.svc:{CONTROLLER_PORT}" for n in range(config.replicas))
    copies = min(3, config.replicas)
    own = f"{PART}-${{env:NODE_ID}}.{PART}-nodes.{namespace}.svc"
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
        "super.users": f"User:CN={PART},O=CogniForge;User:O=CogniForge,CN={PART}",
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
