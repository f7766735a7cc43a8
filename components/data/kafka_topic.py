"""A Kafka topic as a resource: partitions, replicas, and retention of events."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.data.document import Document, document


class KafkaTopicArgs(TypedDict):
    """Inputs of a topic."""

    namespace: pulumi.Input[str]
    cluster: str
    """Name of the cluster's objects in Kubernetes."""
    topic: str
    """Name: lower-case letters, digits, dots and hyphens."""
    brokers: int
    partitions: int
    retention_hours: int


class KafkaTopicResources(NamedTuple):
    """Resources of the declaration."""

    document: k8s.core.v1.ConfigMap
    """What the cluster's task reads."""


class KafkaTopic(PlatformComponent):
    """Desired state of a topic. The cluster's setup task applies it, and fails the update if it cannot.

    Partitions can be added, but not removed. A topic that is no longer declared stays, with its events.
    """

    document: Document
    """Document that the cluster's setup task reads."""

    def __init__(self, name: str, args: KafkaTopicArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        topic, cluster = args["topic"], args["cluster"]
        spec = specification(topic, args["brokers"], args["partitions"], args["retention_hours"])
        super().__init__("data", name, spec, opts)
        config_map = (args["namespace"], f"{cluster}-topic-{topic}")
        self.document = document(name, f"kafka-topic-{topic}", config_map, cluster, spec, self.child())
        self.resources = KafkaTopicResources(self.document.resource)
        self.finish(
            {"kind": "", "namespace": args["namespace"], "name": args["topic"], "probe": "the cluster's task made it"},
            topic=args["topic"],
        )


def specification(topic: str, brokers: int, partitions: int, retention_hours: int) -> dict[str, Any]:
    """Partitions, replicas and settings of a topic, with Kafka's names."""
    copies = min(3, brokers)
    return {
        "name": topic,
        "partitions": partitions,
        "copies": copies,
        "settings": {
            "retention.ms": str(retention_hours * 3_600_000),
            "min.insync.replicas": str(max(1, copies - 1)),
        },
    }
