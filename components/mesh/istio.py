"""Istio: mutual TLS between all services, and who may call whom, from the services' own intents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent, labels, selector
from components.config.mesh import MeshMode
from components.delivery.chart import Operator, OperatorArgs

NAMESPACE = "istio-system"
_SECURITY = "security.istio.io/v1"
_HA = {"autoscaleMin": 2, "autoscaleMax": 5}


class IstioArgs(TypedDict):
    """Inputs of the mesh."""

    mode: MeshMode
    """ambient: a proxy a node (ztunnel); sidecar: a proxy a pod."""
    highly_available: bool
    """Two replicas of the control plane at least."""
    platform: str
    """Platform that the CNI plugin must know of, such as "eks"; empty: none."""


class Istio(PlatformComponent):
    """Istio's control plane and data plane, from its own charts."""

    def __init__(self, name: str, args: IstioArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mesh", name, {"mode": args["mode"].value}, opts)
        ambient = args["mode"] is MeshMode.AMBIENT
        profile = {"profile": "ambient"} if ambient else {}
        common = {"global": {"platform": args["platform"]}} if args["platform"] else {}
        base = self._operator("istio-base", "istiod", False, {"defaultRevision": "default"}, [])
        scale = _HA if args["highly_available"] else {"autoscaleEnabled": False}
        control = self._operator(
            "istiod",
            "istiod",
            True,
            {
                **profile,
                **common,
                **scale,
                "meshConfig": {
                    "accessLogFile": "",
                    "enableTracing": True,
                    "outboundTrafficPolicy": {"mode": "ALLOW_ANY"},
                },
                "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
            },
            [base],
        )
        cni = self._operator("istio-cni", "istio-cni-node", True, {**profile, **common}, [base], "DaemonSet")
        self.ready: list[pulumi.Resource] = [control, cni]
        if ambient:
            resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
            values = {**common, "resources": resources}
            self.ready.append(self._operator("ztunnel", "ztunnel", True, values, [control, cni], "DaemonSet"))
        self.finish(
            {
                "kind": "Deployment",
                "namespace": NAMESPACE,
                "name": "istiod",
                "probe": "istiod is available, and the CNI plugin and ztunnel run on every node",
            }
        )

    def _operator(
        self,
        chart: str,
        deployment: str,
        shared: bool,
        values: Mapping[str, Any],
        depends_on: list[pulumi.Resource],
        kind: str = "Deployment",
    ) -> Operator:
        args: OperatorArgs = {
            "chart": chart,
            "namespace": NAMESPACE,
            "deployment": deployment,
            "kind": kind,
            "values": values,
            "privileged": True,
            "shared": shared,
        }
        return Operator("mesh", f"{self.name}-{chart}", args, self.child(depends_on=depends_on))


class MeshPolicyArgs(TypedDict):
    """Inputs of the policy of a namespace."""

    namespace: pulumi.Input[str]
    callers: Mapping[str, tuple[str, ...]]
    """Who may call each service, by name; nobody else may."""
    metrics: Mapping[str, int]
    """Port of each service that offers /metrics, by name."""
    scraper: tuple[str, str]
    """(namespace, service account) that may connect to these ports."""
    entrance: tuple[str, int]
    """(service, port) that clients outside the mesh reach; it checks their keys itself."""
    cluster_domain: str
    """Trust domain, "cluster.local" by default in Istio."""


class MeshPolicy(PlatformComponent):
    """Strict mutual TLS in a namespace, and an allow-list for each service."""

    def __init__(self, name: str, args: MeshPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mesh", name, {}, opts)
        self._resource("strict", "PeerAuthentication", args["namespace"], {"mtls": {"mode": "STRICT"}})
        self._resource("deny-all", "AuthorizationPolicy", args["namespace"], {})
        entrance, port = args["entrance"]
        chosen = {"selector": {"matchLabels": selector(entrance)}}
        permissive = {**chosen, "mtls": {"mode": "STRICT"}, "portLevelMtls": {str(port): {"mode": "PERMISSIVE"}}}
        self._resource("entrance", "PeerAuthentication", args["namespace"], permissive)
        anybody = {**chosen, "action": "ALLOW", "rules": [{"to": [{"operation": {"ports": [str(port)]}}]}]}
        self._resource("allow-entrance", "AuthorizationPolicy", args["namespace"], anybody)
        for service, callers in args["callers"].items():
            spec = pulumi.Output.from_input(args["namespace"]).apply(
                lambda namespace, service=service, callers=callers: allow(
                    service, callers, namespace, args["cluster_domain"]
                )
            )
            self._resource(f"allow-{service}", "AuthorizationPolicy", args["namespace"], spec)
        for service, port in args["metrics"].items():
            spec = scrape(service, port, args["scraper"], args["cluster_domain"])
            self._resource(f"scrape-{service}", "AuthorizationPolicy", args["namespace"], spec)
        self.finish(
            {"kind": "", "namespace": args["namespace"], "name": name, "probe": "a caller without a right gets 403"}
        )

    def _resource(self, name: str, kind: str, namespace: pulumi.Input[str], spec: Any) -> None:
        k8s.apiextensions.CustomResource(
            f"{self.name}-{name}",
            api_version=_SECURITY,
            kind=kind,
            metadata={"name": name, "namespace": namespace, "labels": labels("mesh-policy", "mesh")},
            spec=spec,
            opts=self.child(),
        )


def allow(service: str, callers: Iterable[str], namespace: str, domain: str) -> dict[str, Any]:
    """An AuthorizationPolicy: these service accounts may call this service."""
    principals = [f"{domain}/ns/{namespace}/sa/{caller}" for caller in callers]
    return {
        "selector": {"matchLabels": selector(service)},
        "action": "ALLOW",
        # A policy without rules allows nobody.
        "rules": [{"from": [{"source": {"principals": principals}}]}] if principals else [],
    }


def scrape(service: str, port: int, scraper: tuple[str, str], domain: str) -> dict[str, Any]:
    """An AuthorizationPolicy: the scraper may connect to the port of a service that offers metrics.

    Only ports are told apart: in ambient mode no proxy on the way reads paths, and a rule with one would match nothing.
    """
    namespace, account = scraper
    return {
        "selector": {"matchLabels": selector(service)},
        "action": "ALLOW",
        "rules": [
            {
                "from": [{"source": {"principals": [f"{domain}/ns/{namespace}/sa/{account}"]}}],
                "to": [{"operation": {"ports": [str(port)]}}],
            }
        ],
    }


def namespace_labels(mode: MeshMode) -> dict[str, str]:
    """What puts a namespace into the mesh."""
    return {
        MeshMode.AMBIENT: {"istio.io/dataplane-mode": "ambient"},
        MeshMode.SIDECAR: {"istio-injection": "enabled"},
        MeshMode.OFF: dict[str, str](),
    }[mode]
