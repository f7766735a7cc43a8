"""What a login may do in Kafka, as a resource: its rights follow from what its service produces and consumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import pulumi

from components.base import PlatformComponent
from components.data.task import Document, document
from components.services.record import DataIntent
from components.services.registry import SERVICES

CAPTURE = "capture"
"""The login of change data capture, beside the services'."""
CONNECT_PREFIX = "connect-"
"""Topics and group of Kafka Connect begin with this."""


class Right(TypedDict):
    """One allowed operation, in the terms of Kafka's ACLs."""

    kind: str
    name: str
    pattern: str
    """LITERAL or PREFIXED."""
    operation: str


class KafkaAccessArgs(TypedDict):
    """Inputs of a login's rights."""

    namespace: pulumi.Input[str]
    login: str
    rights: list[Right]


class KafkaAccess(PlatformComponent):
    """A login and its ACLs. The cluster's task gives it these and takes away all others."""

    document: Document
    """What the cluster's task reads."""

    def __init__(self, name: str, args: KafkaAccessArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        spec = {"user": args["login"], "rights": args["rights"]}
        super().__init__("data", name, spec, opts)
        self.document = document(name, f"kafka-access-{args['login']}", "kafka", args["namespace"], spec, self.child())
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
    """All logins that there may be; who is not declared any more has its rights and its password taken away."""
    return sorted({*SERVICES, CAPTURE})


def logins(capture: bool) -> dict[str, list[Right]]:
    """Every login of Kafka that the intents ask for, and its rights."""
    found = {s.name: rights(s) for s in SERVICES.values() if s.produces or s.consumes}
    return found | ({CAPTURE: capture_rights()} if capture else {})


def rights(intent: DataIntent) -> list[Right]:
    """What a service does itself; its outbox is written by change data capture."""
    return [
        *_allow("TOPIC", intent.produces, ("WRITE", "DESCRIBE")),
        *_allow("TOPIC", intent.consumes, ("READ", "DESCRIBE")),
        *_allow("GROUP", [intent.name] if intent.consumes else [], ("READ",), "PREFIXED"),
    ]


def capture_rights() -> list[Right]:
    """What change data capture does: all outboxes' topics, and what Kafka Connect keeps for itself."""
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
