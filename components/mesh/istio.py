"""Istio: mutual TLS between all services, and authorization that is derived from the services' intents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, Self, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic import Field, model_validator

from components.base import PlatformComponent, labels, selector
from components.config.base import DnsLabel, Hostname, NamespaceName, ObjectName
from components.config.mesh import MeshMode
from components.config.problems import violation
from components.delivery.chart import Operator, OperatorArgs
from components.inputs import Inputs, Port, Text, checked

NAMESPACE = "istio-system"
_SECURITY = "security.istio.io/v1"
_HA = {"autoscaleMin": 2, "autoscaleMax": 5}


class IstioArgs(TypedDict):
    """Inputs of Istio."""

    mode: NotRequired[MeshMode]
    """ambient: one proxy (ztunnel) per node; sidecar: one proxy per pod. Default "ambient"."""
    highly_available: NotRequired[bool]
    """Whether the control plane has at least two replicas. Default true."""
    platform: NotRequired[str]
    """Kubernetes platform for the CNI plugin, such as "eks". Default: none."""


class IstioInputs(Inputs):
    """What `IstioArgs` may hold."""

    mode: MeshMode = Field(default=MeshMode.AMBIENT, strict=False, description="ambient or sidecar")
    highly_available: bool = Field(default=True, description="Whether the control plane has at least two replicas")
    platform: str = Field(default="", max_length=40, description="Kubernetes platform for the CNI plugin")

    @model_validator(mode="after")
    def _is_a_mesh(self) -> Self:
        if self.mode is MeshMode.OFF:
            raise violation("mode ambient or sidecar", "choose one, or leave the component out")
        return self


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
        inputs = checked(IstioInputs, self, name, args)
        super().__init__("mesh", name, {"mode": inputs.mode.value}, opts)
        ambient = inputs.mode is MeshMode.AMBIENT
        profile = {"profile": "ambient"} if ambient else {}
        common = {"global": {"platform": inputs.platform}} if inputs.platform else {}
        base = self._operator("istio-base", "istiod", False, {"defaultRevision": "default"}, [])
        scale = _HA if inputs.highly_available else {"autoscaleEnabled": False}
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


class ScraperArgs(TypedDict):
    """The metrics collector."""

    namespace: str
    """Its namespace."""
    account: str
    """Its service account."""


class EntranceArgs(TypedDict):
    """A service that is open to clients outside the mesh, and checks API keys itself."""

    service: str
    """Name of the service."""
    port: int
    """TCP port of its pods."""


class MeshPolicyArgs(TypedDict):
    """Inputs of `MeshPolicy`."""

    namespace: pulumi.Input[str]
    """Namespace in the mesh."""
    callers: Mapping[str, Sequence[str]]
    """Service accounts that may call each service, by the service's name. All others are refused."""
    metrics: NotRequired[Mapping[str, int]]
    """TCP port of /metrics by service name. Default: none."""
    scraper: NotRequired[ScraperArgs]
    """The metrics collector, which may connect to these ports. Required with `metrics`."""
    entrance: NotRequired[EntranceArgs]
    """The service that is open to clients outside the mesh. Default: none."""
    cluster_domain: NotRequired[str]
    """Trust domain. Default "cluster.local", as in Istio."""


class Scraper(Inputs):
    """The metrics collector."""

    namespace: NamespaceName = Field(description="Its namespace")
    account: DnsLabel = Field(description="Its service account")


class Entrance(Inputs):
    """A service that is open to clients outside the mesh."""

    service: DnsLabel = Field(description="Name of the service")
    port: Port = Field(description="TCP port of its pods")


class MeshPolicyInputs(Inputs):
    """What `MeshPolicyArgs` may hold."""

    namespace: Text = Field(description="Namespace in the mesh")
    callers: dict[ObjectName, list[ObjectName]] = Field(description="Who may call each service")
    metrics: dict[ObjectName, Port] = Field(
        default_factory=dict[str, int], description="TCP port of /metrics by service name"
    )
    scraper: Scraper | None = Field(default=None, description="The metrics collector")
    entrance: Entrance | None = Field(default=None, description="The service that is open to clients outside the mesh")
    cluster_domain: Hostname = Field(default="cluster.local", description="Trust domain")

    @model_validator(mode="after")
    def _somebody_collects(self) -> Self:
        if self.metrics and self.scraper is None:
            raise violation("with metrics, scraper is required", "add scraper, or remove metrics")
        return self


class MeshPolicyResources(NamedTuple):
    """Resources of the policy of a namespace."""

    policies: tuple[k8s.apiextensions.CustomResource, ...]
    """PeerAuthentications and AuthorizationPolicies."""


class MeshPolicy(PlatformComponent):
    """Strict mutual TLS in a namespace, and an AuthorizationPolicy per service."""

    def __init__(self, name: str, args: MeshPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(MeshPolicyInputs, self, name, args)
        super().__init__("mesh", name, {}, opts)
        self._made: list[k8s.apiextensions.CustomResource] = []
        self._resource("strict", "PeerAuthentication", inputs.namespace, {"mtls": {"mode": "STRICT"}})
        self._resource("deny-all", "AuthorizationPolicy", inputs.namespace, {})
        if inputs.entrance is not None:
            chosen = {"selector": {"matchLabels": selector(inputs.entrance.service)}}
            port = str(inputs.entrance.port)
            permissive = {**chosen, "mtls": {"mode": "STRICT"}, "portLevelMtls": {port: {"mode": "PERMISSIVE"}}}
            self._resource("entrance", "PeerAuthentication", inputs.namespace, permissive)
            anybody = {**chosen, "action": "ALLOW", "rules": [{"to": [{"operation": {"ports": [port]}}]}]}
            self._resource("allow-entrance", "AuthorizationPolicy", inputs.namespace, anybody)
        for service, callers in inputs.callers.items():
            spec = pulumi.Output.from_input(inputs.namespace).apply(
                lambda namespace, service=service, callers=callers: allow(
                    service, callers, namespace, inputs.cluster_domain
                )
            )
            self._resource(f"allow-{service}", "AuthorizationPolicy", inputs.namespace, spec)
        for service, number in inputs.metrics.items():
            assert inputs.scraper is not None  # the inputs are refused without
            spec = scrape(service, number, (inputs.scraper.namespace, inputs.scraper.account), inputs.cluster_domain)
            self._resource(f"scrape-{service}", "AuthorizationPolicy", inputs.namespace, spec)
        self.resources = MeshPolicyResources(tuple(self._made))
        self.finish(
            {"kind": "", "namespace": inputs.namespace, "name": name, "probe": "a caller without a right gets 403"}
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
