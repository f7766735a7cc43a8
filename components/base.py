"""Base class of all components: type token, labels, outputs, health check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypedDict

import pulumi

PART_OF = "cogniforge"
ADMISSION_LABEL = "cogniforge.dev/admission"
"""Label of a namespace. Its value is the platform's namespace; only images of that platform may run in pods here."""
SCRAPER = ("observability", "prometheus")
"""Namespace, and name of the service account, of the metrics collector."""


class HealthCheck(TypedDict):
    """Health check of a component. `forge status` reads it from the stack's outputs."""

    kind: str
    """Kind of the Kubernetes object to check, such as "Deployment"; empty for a component without one."""
    namespace: pulumi.Input[str]
    name: pulumi.Input[str]
    probe: str
    """Description of the check, such as "GET /readyz answers 200"."""


def formerly(name: str, *tokens: str) -> list[pulumi.Alias]:
    """Aliases of a renamed component, so that the rename replaces no resources. `name` is the former name.

    `tokens` are former type tokens, if name and type change in one release.
    """
    return [pulumi.Alias(name=name), *(pulumi.Alias(name=name, type_=token) for token in tokens)]


def labels(part: str, component: str, **extra: str) -> dict[str, str]:
    """Kubernetes' recommended labels for an object of a part."""
    return {
        "app.kubernetes.io/name": part,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": PART_OF,
        "app.kubernetes.io/managed-by": "pulumi",
        **extra,
    }


def selector(part: str) -> dict[str, str]:
    """Labels that select a part's pods. They must never change: selectors are immutable."""
    return {"app.kubernetes.io/name": part, "app.kubernetes.io/part-of": PART_OF}


def gathered(known: Mapping[str, pulumi.Input[Any]]) -> pulumi.Output[dict[str, Any]]:
    """The values by name, known once all are. `pulumi.Output.all` makes a list where there is no name."""
    return pulumi.Output.all(**known) if known else pulumi.Output.from_input({})


def fingerprint(text: str) -> str:
    """A short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class PlatformComponent(pulumi.ComponentResource):
    """Base of all components. A subclass passes `self.child()` to its resources and calls `finish` at the end.

    It keeps its main resources in `resources`, a NamedTuple called `<class>Resources`: programs reach them there.
    """

    health: pulumi.Output[dict[str, Any]]
    """What `forge status` checks: kind, namespace and name of a Kubernetes object, and what shows that it works."""
    ports: Mapping[str, Sequence[int]]
    """TCP ports inside the cluster, by name of the Kubernetes Service."""
    former_tokens: ClassVar[tuple[str, ...]] = ()
    """Former type tokens. With them, a renamed or moved component keeps its resources."""

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
        """Resource options for children of this component; `options` are passed on to ResourceOptions."""
        return pulumi.ResourceOptions(parent=self, **options)

    def finish(self, health: HealthCheck, **outputs: Any) -> None:
        """Register the health check and the outputs. Every constructor calls this last."""
        self.health = pulumi.Output.from_input(dict(health))
        self.register_outputs({**outputs, "health": self.health})
