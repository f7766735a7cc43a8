"""The platform's namespace: restricted pods, and traffic denied by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field

from components.base import PART_OF, PlatformComponent, labels, selector
from components.config.base import LabelKey, LabelValue
from components.inputs import Inputs, Text, checked

DNS_PORT = 53


class PlatformNamespaceArgs(TypedDict):
    """Inputs of the namespace."""

    namespace: pulumi.Input[str]
    """Name of the namespace."""
    owner: pulumi.Input[str]
    """Person or group responsible for it, stored as an annotation."""
    labels: NotRequired[dict[str, str]]
    """Additional labels, such as those of the mesh."""


class PlatformNamespaceInputs(Inputs):
    """What `PlatformNamespaceArgs` may hold."""

    namespace: Text = Field(description="Name of the namespace")
    owner: Text = Field(description="Person or group responsible for it")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict[str, str], description="Additional labels")


class PlatformNamespaceResources(NamedTuple):
    """Resources of the namespace."""

    namespace: k8s.core.v1.Namespace
    default_deny: k8s.networking.v1.NetworkPolicy
    default_egress: k8s.networking.v1.NetworkPolicy


class PlatformNamespace(PlatformComponent):
    """A namespace that enforces the restricted Pod Security Standard and denies traffic by default."""

    namespace: pulumi.Output[str]
    """Name of the namespace, known once it exists."""

    def __init__(self, name: str, args: PlatformNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(PlatformNamespaceInputs, self, name, args)
        super().__init__("cluster", name, args, opts)
        standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        namespace = k8s.core.v1.Namespace(
            name,
            metadata={
                "name": inputs.namespace,
                "labels": {**labels("namespace", "cluster"), **standard, **inputs.labels},
                "annotations": {"cogniforge.dev/owner": inputs.owner},
            },
            opts=self.child(),
        )
        self.namespace = namespace.metadata["name"]
        # One policy per direction: in a policy with both directions that selects both pods, kube-router lets an egress
        # rule admit ingress.
        deny = self._policy("default-deny", {"policy_types": ["Ingress"]})
        egress: list[Any] = [
            {"ports": [{"port": DNS_PORT, "protocol": protocol} for protocol in ("UDP", "TCP")]},
            {"to": [{"pod_selector": {"match_labels": {"app.kubernetes.io/part-of": PART_OF}}}]},
        ]
        allow = self._policy("default-egress", {"policy_types": ["Egress"], "egress": egress})
        self.resources = PlatformNamespaceResources(namespace, deny, allow)
        self.finish(
            {"kind": "Namespace", "namespace": "", "name": self.namespace, "probe": "it is Active"},
            namespace=self.namespace,
        )

    def _policy(self, policy: str, spec: dict[str, Any]) -> k8s.networking.v1.NetworkPolicy:
        """Create a NetworkPolicy for all pods of the namespace."""
        meta: Any = {"name": policy, "namespace": self.namespace, "labels": labels("namespace", "cluster")}
        choice: Any = {"pod_selector": {}, **spec}
        return k8s.networking.v1.NetworkPolicy(f"{self.name}-{policy}", metadata=meta, spec=choice, opts=self.child())


def peers_in(namespace: str, parts: Sequence[str]) -> Any:
    """NetworkPolicy peers: the pods of these parts in another namespace than the policy's."""
    there = {"match_labels": {"kubernetes.io/metadata.name": namespace}}
    return [{"namespace_selector": there, "pod_selector": {"match_labels": selector(part)}} for part in parts]
