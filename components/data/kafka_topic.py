"""A topic of Kafka, as a resource: how many partitions and copies it has, and how long it keeps events."""

from __future__ import annotations

from typing import Any, TypedDict

import pulumi

from components.base import PlatformComponent
from components.config.data import Kafka
from components.data.task import Document, document


class KafkaTopicArgs(TypedDict):
    """Inputs of a topic."""

    namespace: pulumi.Input[str]
    topic: str
    """Its name: lower-case words, digits, dots and hyphens."""


class KafkaTopic(PlatformComponent):
    """What a topic is to be. The cluster's task brings it about, and fails the update where it cannot.

    Partitions are added and never taken away. A topic that is no longer declared stays, with its events.
    """

    document: Document
    """What the cluster's task reads."""

    def __init__(
        self, name: str, config: Kafka, args: KafkaTopicArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        spec = specification(args["topic"], config)
        super().__init__("data", name, spec, opts)
        self.document = document(name, f"kafka-topic-{args['topic']}", "kafka", args["namespace"], spec, self.child())
        self.finish(
            {"kind": "", "namespace": args["namespace"], "name": args["topic"], "probe": "the cluster's task made it"},
            topic=args["topic"],
        )


def specification(topic: str, config: Kafka) -> dict[str, Any]:
    """A topic's partitions, copies (replicas), and settings in Kafka's terms."""
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
