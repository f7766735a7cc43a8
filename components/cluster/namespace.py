"""The platform's namespace: restricted pods, and traffic denied by default."""

from __future__ import annotations

from typing import Any, NamedTuple, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PART_OF, PlatformComponent, labels

DNS_PORT = 53


class PlatformNamespaceArgs(TypedDict):
    """Inputs of the namespace."""

    namespace: pulumi.Input[str]
    """Name of the namespace."""
    owner: pulumi.Input[str]
    """Person or group responsible for it, stored as an annotation."""
    labels: NotRequired[dict[str, str]]
    """Additional labels, such as those of the mesh."""


class PlatformNamespaceResources(NamedTuple):
    """Resources of the namespace."""

    namespace: k8s.core.v1.Namespace
    default_deny: k8s.networking.v1.NetworkPolicy
    default_egress: k8s.networking.v1.NetworkPolicy


class PlatformNamespace(PlatformComponent):
    """A namespace that enforces the restricted Pod Security Standard and denies traffic by default."""

    namespace: pulumi.Output[str]

    def __init__(self, name: str, args: PlatformNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cluster", name, args, opts)
        standard = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        namespace = k8s.core.v1.Namespace(
            name,
            metadata={
                "name": args["namespace"],
                "labels": {**labels("namespace", "cluster"), **standard, **args.get("labels", {})},
                "annotations": {"cogniforge.dev/owner": args["owner"]},
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
