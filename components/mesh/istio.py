"""Istio: mutual TLS between all services, and authorization that is derived from the services' intents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components.base import PlatformComponent, labels, selector
from components.config.mesh import MeshMode
from components.delivery.chart import Operator, OperatorArgs

NAMESPACE = "istio-system"
_SECURITY = "security.istio.io/v1"
_HA = {"autoscaleMin": 2, "autoscaleMax": 5}


class IstioArgs(TypedDict):
    """Inputs of Istio."""

    mode: MeshMode
    """ambient: one proxy (ztunnel) per node; sidecar: one proxy per pod."""
    highly_available: bool
    """Whether the control plane has at least two replicas."""
    platform: str
    """Kubernetes platform for the CNI plugin, such as "eks"; empty for none."""


class IstioResources(NamedTuple):
    """Resources of the mesh."""

    base: Operator
    """CRDs."""
    control_plane: Operator
    """istiod."""
    cni: Operator
    ztunnel: Operator | None
    """In ambient mode."""


class Istio(PlatformComponent):
    """Istio's control plane and data plane, from the official charts."""

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
        tunnel = None
        if ambient:
            resources = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}}
            values = {**common, "resources": resources}
            tunnel = self._operator("ztunnel", "ztunnel", True, values, [control, cni], "DaemonSet")
            self.ready.append(tunnel)
        self.resources = IstioResources(base, control, cni, tunnel)
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
    """Inputs of `MeshPolicy`."""

    namespace: pulumi.Input[str]
    callers: Mapping[str, tuple[str, ...]]
    """Allowed callers by service name. All others are refused."""
    metrics: Mapping[str, int]
    """TCP port of /metrics by service name."""
    scraper: tuple[str, str]
    """(namespace, service account) of the metrics collector, which may connect to these ports."""
    entrance: tuple[str, int]
    """(service, port) that is open to clients outside the mesh. That service checks API keys itself."""
    cluster_domain: str
    """Trust domain. Istio's default is "cluster.local"."""


class MeshPolicyResources(NamedTuple):
    """Resources of the policy of a namespace."""

    policies: tuple[k8s.apiextensions.CustomResource, ...]
    """PeerAuthentications and AuthorizationPolicies."""


class MeshPolicy(PlatformComponent):
    """Strict mutual TLS in a namespace, and an AuthorizationPolicy per service."""

    def __init__(self, name: str, args: MeshPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("mesh", name, {}, opts)
        self._made: list[k8s.apiextensions.CustomResource] = []
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
        self.resources = MeshPolicyResources(tuple(self._made))
        self.finish(
            {"kind": "", "namespace": args["namespace"], "name": name, "probe": "a caller without a right gets 403"}
        )

    def _resource(self, name: str, kind: str, namespace: pulumi.Input[str], spec: Any) -> None:
        made = k8s.apiextensions.CustomResource(
            f"{self.name}-{name}",
            api_version=_SECURITY,
            kind=kind,
            metadata={"name": name, "namespace": namespace, "labels": labels("mesh-policy", "mesh")},
            spec=spec,
            opts=self.child(),
        )
        self._made.append(made)


def allow(service: str, callers: Iterable[str], namespace: str, domain: str) -> dict[str, Any]:
    """Spec of an AuthorizationPolicy: these service accounts may call this service."""
    principals = [f"{domain}/ns/{namespace}/sa/{caller}" for caller in callers]
    return {
        "selector": {"matchLabels": selector(service)},
        "action": "ALLOW",
        # A policy without rules denies all requests.
        "rules": [{"from": [{"source": {"principals": principals}}]}] if principals else [],
    }


def scrape(service: str, port: int, scraper: tuple[str, str], domain: str) -> dict[str, Any]:
    """Spec of an AuthorizationPolicy: the metrics collector may connect to a service's metrics port.

    The rule names a port but no path: in ambient mode no proxy parses HTTP, and a rule with a path would never match.
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
    """Labels that add a namespace to the mesh."""
    return {
        MeshMode.AMBIENT: {"istio.io/dataplane-mode": "ambient"},
        MeshMode.SIDECAR: {"istio-injection": "enabled"},
        MeshMode.OFF: dict[str, str](),
    }[mode]
