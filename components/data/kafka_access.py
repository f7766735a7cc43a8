"""What a login may do in Kafka, as a resource: its rights follow from the topics that it writes and reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.data.document import Document, document
from components.data.kafka_inputs import KafkaUser, Right

CAPTURE = "capture"
"""Login of change data capture."""
CONNECT_PREFIX = "connect-"
"""Prefix of Kafka Connect's internal topics and of its group."""


class KafkaAccessArgs(TypedDict):
    """Inputs of `KafkaAccess`."""

    namespace: pulumi.Input[str]
    cluster: str
    """Name of the cluster's objects in Kubernetes."""
    login: str
    rights: list[Right]


class KafkaAccessResources(NamedTuple):
    """Resources of the declaration."""

    document: k8s.core.v1.ConfigMap
    """What the cluster's task reads."""


class KafkaAccess(PlatformComponent):
    """A login and its ACLs. The cluster's setup task creates these ACLs and removes all others."""

    document: Document
    """Document that the cluster's setup task reads."""

    def __init__(self, name: str, args: KafkaAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        spec = {"user": args["login"], "rights": args["rights"]}
        super().__init__("data", name, spec, opts)
        login, cluster = args["login"], args["cluster"]
        config_map = (args["namespace"], f"{cluster}-access-{login}")
        self.document = document(name, f"kafka-access-{login}", config_map, cluster, spec, self.child())
        self.resources = KafkaAccessResources(self.document.resource)
        self.finish(
            {
                "kind": "",
                "namespace": args["namespace"],
                "name": args["login"],
                "probe": "the cluster's task gave it these rights and no others",
            },
            login=args["login"],
        )


def rights(user: KafkaUser) -> list[Right]:
    """What a login may do: write and read its topics, and what else was asked for."""
    return [
        *_allow("TOPIC", user.produces, ("WRITE", "DESCRIBE")),
        *_allow("TOPIC", user.consumes, ("READ", "DESCRIBE")),
        *_allow("GROUP", [user.name] if user.consumes else [], ("READ",), "PREFIXED"),
        *(Right(kind=r.kind, name=r.name, pattern=r.pattern, operation=r.operation) for r in user.rights),
    ]


def capture_rights() -> list[Right]:
    """What change data capture does besides writing the outboxes' topics: Kafka Connect's own topics and group."""
    return [
        *_allow("TOPIC", [CONNECT_PREFIX], ("ALL",), "PREFIXED"),
        *_allow("GROUP", [CONNECT_PREFIX], ("ALL",), "PREFIXED"),
    ]


def _allow(kind: str, names: Iterable[str], operations: tuple[str, ...], pattern: str = "LITERAL") -> list[Right]:
    return [
        {"kind": kind, "name": name, "pattern": pattern, "operation": operation}
        for name in names
        for operation in operations
    ]
