"""What every component of the platform has in common: type token, labels, outputs, health check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict

import pulumi

PART_OF = "cogniforge"
ADMISSION_LABEL = "cogniforge.dev/admission"
"""Label of a namespace. Its value is the namespace of the platform whose release alone may run pods there."""
SCRAPER = ("observability", "prometheus")
"""Namespace and service account (and name) of what reads the parts' metrics."""


class HealthCheck(TypedDict):
    """How to tell that a component works. `forge status` reads it from the stack's outputs."""

    kind: str
    """Kubernetes kind to look at, such as "Deployment"; empty for a component without one."""
    namespace: pulumi.Input[str]
    name: pulumi.Input[str]
    probe: str
    """What readiness means, in words: "GET /readyz answers 200"."""


def formerly(name: str, *tokens: str) -> list[pulumi.Alias]:
    """Aliases for a component that had another name; with them a new name replaces nothing.

    `tokens` are its former type tokens, where name and type change in one release.
    """
    return [pulumi.Alias(name=name), *(pulumi.Alias(name=name, type_=token) for token in tokens)]


def labels(part: str, component: str, **extra: str) -> dict[str, str]:
    """The recommended labels of Kubernetes for an object of a part."""
    return {
        "app.kubernetes.io/name": part,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PART_OF,
        "app.kubernetes.io/managed-by": "pulumi",
        **extra,
    }


def selector(part: str) -> dict[str, str]:
    """The labels that pick a part's pods; these never change, since selectors cannot."""
    return {"app.kubernetes.io/name": part, "app.kubernetes.io/part-of": PART_OF}


def fingerprint(text: str) -> str:
    """A short text that changes with another."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class PlatformComponent(pulumi.ComponentResource):
    """Base of all components. A subclass makes its resources with `self.child()` and ends with `finish`."""

    health: pulumi.Output[dict[str, Any]]
    ports: Mapping[str, Sequence[int]]
    """TCP ports that it serves inside the cluster, by the name of the Service that offers them."""
    former_tokens: ClassVar[tuple[str, ...]] = ()
    """Type tokens that this component had before; what they made is kept when it is renamed or moves."""

    def __init__(
        self, area: str, name: str, args: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """`area` is the folder under components/; the token is `cogniforge:<area>:<class>`."""
        former = pulumi.ResourceOptions(aliases=[pulumi.Alias(type_=token) for token in self.former_tokens])
        opts = pulumi.ResourceOptions.merge(former, opts)
        super().__init__(f"{PART_OF}:{area}:{type(self).__name__}", name, dict(args), opts)
        self.name = name
        self.ports = {}

    def child(self, **options: Any) -> pulumi.ResourceOptions:
        """Options that make a resource a child of this component."""
        return pulumi.ResourceOptions(parent=self, **options)

    def finish(self, health: HealthCheck, **outputs: Any) -> None:
        """Register the outputs and the health check; every component ends with this."""
        self.health = pulumi.Output.from_input(dict(health))
        self.register_outputs({**outputs, "health": self.health})
