"""A Kafka broker on loopback from the jars of the image, and Debezium with the platform's connectors."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from components.data.change_data_capture import CAPTURE, connectors
from local import paths
from local.images import maven
from service_images.ports import free_port
from tests.waiting import until

STARTS_S = 120
_CLUSTER = "Y29nbmlmb3JnZS10ZXN0cw"


def _java(*words: str | Path) -> list[str | Path]:
    jars = maven.jars(paths.PROJECT / "service_images/kafka")
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-cp", f"{jars}/*", *words]


@contextmanager
def _running(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


@contextmanager
def broker(folder: Path, topics: Sequence[str], port: int = 0) -> Iterator[str]:
    """host:port of a broker with these topics, each with one partition. Port 0: a free one."""
    port, control = port or free_port(), free_port()
    (folder / "broker.properties").write_text(
        f"""\
process.roles=broker,controller
node.id=0
controller.quorum.voters=0@127.0.0.1:{control}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
    )
    format_it = ("kafka.tools.StorageTool", "format", "--cluster-id", _CLUSTER, "--config")
    subprocess.run(_java(*format_it, folder / "broker.properties"), check=True, capture_output=True)
    log = folder / "broker.log"
    with _running(_java("kafka.Kafka", folder / "broker.properties"), log):
        client = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0})

        def answers() -> bool:
            try:
                return bool(client.list_topics(timeout=2).brokers)
            except KafkaException:
                return False

        until(answers, STARTS_S, lambda: log.read_text()[-3000:])
        for made in client.create_topics([NewTopic(name, 1, 1) for name in topics]).values():
            made.result(STARTS_S)
        yield f"127.0.0.1:{port}"


@contextmanager
def change_data_capture(folder: Path, bootstrap: str, postgres_port: int, database: str) -> Iterator[None]:
    """Debezium reads the outbox of a database of a server on loopback, whose user `postgres` needs no password."""
    found = connectors("127.0.0.1", [database])[f"outbox-{database}"]
    own = {
        "name": f"outbox-{database}",
        "database.port": str(postgres_port),
        "database.user": "postgres",
        "database.password": CAPTURE,
        "topic.creation.default.replication.factor": "1",
    }
    worker = {
        "bootstrap.servers": bootstrap,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "offset.storage.file.filename": str(folder / "offsets"),
        "offset.flush.interval.ms": "1000",
        "plugin.discovery": "only_scan",
        "listeners": f"http://127.0.0.1:{free_port()}",
    }
    for name, content in (("connector", {**found, **own}), ("worker", worker)):
        (folder / f"{name}.properties").write_text("".join(f"{key}={value}\n" for key, value in content.items()))
    files = folder / "worker.properties", folder / "connector.properties"
    log = folder / "connect.log"
    with (
        _running(_java("org.apache.kafka.connect.cli.ConnectStandalone", *files), log),
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{postgres_port}/{database}", autocommit=True) as connection,
    ):
        # Rows are deleted in the transaction that writes them, so only a slot that exists sees them.
        reading = "SELECT 1 FROM pg_replication_slots WHERE active"
        until(lambda: connection.execute(reading).fetchone(), STARTS_S, lambda: log.read_text()[-3000:])
        yield
