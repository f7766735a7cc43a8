"""A Kafka topic as a resource: partitions, replicas, and retention of events."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.config.data import Kafka
from components.data.task import Document, document


class KafkaTopicArgs(TypedDict):
    """Inputs of a topic."""

    namespace: pulumi.Input[str]
    topic: str
    """Name: lower-case letters, digits, dots and hyphens."""


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

    def __init__(
        self, name: str, config: Kafka, args: KafkaTopicArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        spec = specification(args["topic"], config)
        super().__init__("data", name, spec, opts)
        self.document = document(name, f"kafka-topic-{args['topic']}", "kafka", args["namespace"], spec, self.child())
        self.resources = KafkaTopicResources(self.document.resource)
        self.finish(
            {"kind": "", "namespace": args["namespace"], "name": args["topic"], "probe": "the cluster's task made it"},
            topic=args["topic"],
        )


def specification(topic: str, config: Kafka) -> dict[str, Any]:
    """Partitions, replicas and settings of a topic, with Kafka's names."""
    copies = min(3, config.replicas)
    return {
        "name": topic,
        "partitions": config.partitions,
        "copies": copies,
        "settings": {
            "retention.ms": str(config.retention_hours * 3_600_000),
            "min.insync.replicas": str(max(1, copies - 1)),
        },
    }
