"""Probes of a Kafka broker, based on its metrics: `probe.py started|ready <metrics port>`.

A broker becomes ready when it is in sync for all its partitions, and stays ready while it runs. A rolling restart waits
for readiness before it restarts the next broker, so that an event never loses two replicas at once.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RUNNING = 3.0
"""State of a serving broker. Source: org.apache.kafka.metadata.BrokerState."""
LIBRARIES = "/opt/kafka/python"
TLS = "/etc/tls"
SEEN = Path("/tmp/in-sync")
"""File with the start of the broker that has been in sync. The folder survives a restart of the container."""


def values(text: str, name: str) -> list[float]:
    """All values of a metric."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return [float(line.rsplit(" ", 1)[1]) for line in lines]


def running(port: str) -> bool:
    """Whether the broker reports that it is serving."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=4) as answer:
        return values(answer.read().decode(), "kafka_broker_state") == [RUNNING]


def out_of_sync(node: int, topics: Iterable[Any]) -> list[str]:
    """Partitions whose replica on this node is not in sync."""
    return [
        f"{topic.topic}-{partition.id}"
        for topic in topics
        for partition in topic.partitions.values()
        if node in partition.replicas and node not in partition.isrs
    ]


def _topics() -> list[Any]:
    sys.path.insert(0, LIBRARIES)
    from confluent_kafka.admin import AdminClient

    settings = {
        "bootstrap.servers": f"{socket.gethostname()}.{os.environ['NODES']}",
        "security.protocol": "ssl",
        "ssl.ca.location": f"{TLS}/ca.crt",
        "ssl.certificate.location": f"{TLS}/tls.crt",
        "ssl.key.location": f"{TLS}/tls.key",
        "log_level": 2,
    }
    return list(AdminClient(settings).list_topics(timeout=4).topics.values())


def _start() -> str:
    """Start time of the container's main process in clock ticks: field 22 of its stat."""
    return Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19]


def in_sync() -> bool:
    """Whether the broker has been in sync with all leaders since its start."""
    start = _start()
    if SEEN.exists() and SEEN.read_text() == start:
        return True
    missing = out_of_sync(int(socket.gethostname().rpartition("-")[2]), _topics())
    if missing:
        print(f"{len(missing)} partitions are not in sync here yet: {', '.join(sorted(missing)[:5])}")
        return False
    SEEN.write_text(start)
    return True


def main(question: str, port: str) -> int:
    """Exit status 0 if the probe succeeds."""
    return 0 if running(port) and (question == "started" or in_sync()) else 1


if __name__ == "__main__":
    try:
        raise SystemExit(main(*sys.argv[1:]))
    except Exception as error:  # any error means failure, and its text should appear in the pod's events
        print(error)
        raise SystemExit(1) from None
