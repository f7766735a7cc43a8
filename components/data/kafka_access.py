"""Kafka ACLs of a login, as a resource. They are derived from what its service produces and consumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent
from components.data.task import Document, document
from components.services.record import DataIntent
from components.services.registry import SERVICES

CAPTURE = "capture"
"""Login of change data capture."""
CONNECT_PREFIX = "connect-"
"""Prefix of Kafka Connect's internal topics and of its group."""


class Right(TypedDict):
    """One allowed operation, with the terms of Kafka's ACLs."""

    kind: str
    name: str
    pattern: str
    """How `name` is matched: LITERAL or PREFIXED."""
    operation: str


class KafkaAccessArgs(TypedDict):
    """Inputs of `KafkaAccess`."""

    namespace: pulumi.Input[str]
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
        self.document = document(name, f"kafka-access-{args['login']}", "kafka", args["namespace"], spec, self.child())
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


def every_login() -> list[str]:
    """All possible logins. The setup task removes the ACLs and passwords of those that are not declared."""
    return sorted({*SERVICES, CAPTURE})


def logins(capture: bool) -> dict[str, list[Right]]:
    """ACLs by login, derived from the intents."""
    found = {s.name: rights(s) for s in SERVICES.values() if s.produces or s.consumes}
    return found | ({CAPTURE: capture_rights()} if capture else {})


def rights(intent: DataIntent) -> list[Right]:
    """ACLs of a service's own login. Its outbox topics belong to change data capture."""
    return [
        *_allow("TOPIC", intent.produces, ("WRITE", "DESCRIBE")),
        *_allow("TOPIC", intent.consumes, ("READ", "DESCRIBE")),
        *_allow("GROUP", [intent.name] if intent.consumes else [], ("READ",), "PREFIXED"),
    ]


def capture_rights() -> list[Right]:
    """ACLs of change data capture: the topics of all outboxes, and Kafka Connect's internal topics."""
    return [
        *_allow("TOPIC", [topic for s in SERVICES.values() for topic in s.outbox], ("WRITE", "DESCRIBE")),
        *_allow("TOPIC", [CONNECT_PREFIX], ("ALL",), "PREFIXED"),
        *_allow("GROUP", [CONNECT_PREFIX], ("ALL",), "PREFIXED"),
    ]


def _allow(kind: str, names: Iterable[str], operations: tuple[str, ...], pattern: str = "LITERAL") -> list[Right]:
    return [
        {"kind": kind, "name": name, "pattern": pattern, "operation": operation}
        for name in names
        for operation in operations
    ]
