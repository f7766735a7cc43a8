"""Prometheus with Alertmanager: metrics of the platform's pods, and its alerts, in a namespace of their own."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, NotRequired, TypedDict
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as k8s

from components.base import ADMISSION_LABEL, SCRAPER, PlatformComponent, labels, selector
from components.cluster.namespace import PlatformNamespace, peers_in
from components.config.base import Resources, quantity
from components.config.observability import Prometheus as PrometheusConfig
from components.data.server import DATA_MOUNT, DataServer, Process, ServerInputs, ServerIntent
from components.mesh.member_certificate import MemberArgs, MemberCertificate
from components.observability import scraping
from components.pods import PodArgs

NAMESPACE, PART = SCRAPER
_READ = ["get", "list", "watch"]
_KUBELET_PORT = 10250
_ALERTS_RESOURCES = Resources(cpu="10m", memory="64Mi")


class PrometheusArgs(TypedDict):
    """Inputs of Prometheus."""

    namespace: str
    """Namespace of the pods that it reads metrics from."""
    owner: str
    """Person or group responsible for its namespace."""
    image: pulumi.Input[str]
    """Image with Prometheus and Alertmanager, by digest."""
    rules: dict[str, Any]
    """Spec of a PrometheusRule."""
    readers: list[str]
    """Parts of the watched namespace that may read metrics and the states of alerts."""
    destroy_data: bool
    """Whether `destroy` may delete the metrics."""
    customize: PodArgs
    """Settings of its pod."""
    mesh: NotRequired[MemberArgs]
    """The mesh of the watched pods, whose sidecars refuse requests without a certificate. Default: none."""


class PrometheusResources(NamedTuple):
    """Resources of Prometheus."""

    namespace: PlatformNamespace
    server: DataServer
    role: k8s.rbac.v1.Role
    """Rights to find pods."""
    cluster_role: k8s.rbac.v1.ClusterRole
    """Rights to find nodes, and to read metrics of kubelets."""


class Prometheus(PlatformComponent):
    """A server with Alertmanager beside it, its namespace, and its rights to find pods. Only its readers may connect.

    Others reach its API through the API server: `kubectl port-forward`, or `forge alerts`.
    """

    def __init__(
        self, name: str, config: PrometheusConfig, args: PrometheusArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("observability", name, {"storage": config.storage}, opts)
        self._watched = args["namespace"]
        # The platform's admission policies hold here, too: only its own images run.
        space = PlatformNamespace(
            f"{name}-namespace",
            {"namespace": NAMESPACE, "owner": args["owner"], "labels": {ADMISSION_LABEL: args["namespace"]}},
            self.child(),
        )
        self._egress(space, config.webhook)
        if args["readers"]:
            self._ingress(space, args["readers"])
        role, cluster_role = self._rights(space)
        after: list[pulumi.Resource] = [role, cluster_role]
        transformations: list[pulumi.ResourceTransformation] = []
        if "mesh" in args:
            member = MemberCertificate(args["mesh"], PART)
            after.append(member.trusted(f"{name}-mesh-root", space.namespace, PART, self.child()))
            transformations.append(member.transformation)
        server = DataServer(
            name,
            ServerIntent(
                name=PART,
                title="Prometheus",
                processes=(
                    Process(
                        PART,
                        args["image"],
                        config.resources,
                        _prometheus(config),
                        {"http": scraping.PORT},
                        ready={"http_get": {"path": "/-/ready", "port": "http"}},
                        alive={"http_get": {"path": "/-/healthy", "port": "http"}},
                        start_s=600,  # it replays its log after a crash
                        asks_kubernetes=True,
                    ),
                    Process(
                        "alertmanager",
                        args["image"],
                        _ALERTS_RESOURCES,
                        _ALERTMANAGER,
                        {"alerts": scraping.ALERTS_PORT},
                        ready={"http_get": {"path": "/-/ready", "port": "alerts"}},
                    ),
                ),
                callers=(),
                storage=config.storage,
            ),
            ServerInputs(
                namespace=space.namespace,
                customize=args["customize"],
                destroy_data=args["destroy_data"],
                files={
                    "prometheus.yml": json.dumps(
                        scraping.prometheus(args["namespace"], in_mesh="mesh" in args), indent=1
                    ),
                    "rules.yml": json.dumps(args["rules"], indent=1),
                    "alertmanager.yml": json.dumps(scraping.alertmanager(config.webhook), indent=1),
                },
            ),
            self.child(depends_on=after, transformations=transformations),
        )
        self.ports = server.ports
        self.resources = PrometheusResources(space, server, role, cluster_role)
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": space.namespace,
                "name": PART,
                "probe": "Prometheus and Alertmanager are ready",
            }
        )

    def _egress(self, space: PlatformNamespace, webhook: str) -> None:
        """To the platform's pods, the API server, the kubelets, and the webhook's receiver."""
        pods: Any = {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": self._watched}}}
        url = urlsplit(webhook)
        receiver = url.port or (80 if url.scheme == "http" else 443)
        ports = sorted({443, 6443, _KUBELET_PORT, receiver})
        spec: Any = {
            "pod_selector": {"match_labels": selector(PART)},
            "policy_types": ["Egress"],
            "egress": [{"to": [pods]}, {"ports": [{"port": port} for port in ports]}],
        }
        meta: Any = {"name": f"{PART}-egress", "namespace": space.namespace, "labels": labels(PART, "observability")}
        k8s.networking.v1.NetworkPolicy(f"{self.name}-egress", metadata=meta, spec=spec, opts=self.child())

    def _ingress(self, space: PlatformNamespace, readers: list[str]) -> None:
        """From its readers, to the server's port. Alertmanager's, which silences alerts, stays closed."""
        spec: Any = {
            "pod_selector": {"match_labels": selector(PART)},
            "policy_types": ["Ingress"],
            "ingress": [{"from_": peers_in(self._watched, readers), "ports": [{"port": "http", "protocol": "TCP"}]}],
        }
        meta: Any = {"name": f"{PART}-readers", "namespace": space.namespace, "labels": labels(PART, "observability")}
        k8s.networking.v1.NetworkPolicy(f"{self.name}-readers", metadata=meta, spec=spec, opts=self.child())

    def _rights(self, space: PlatformNamespace) -> tuple[k8s.rbac.v1.Role, k8s.rbac.v1.ClusterRole]:
        subject: Any = {"kind": "ServiceAccount", "name": PART, "namespace": space.namespace}
        here: Any = {"name": PART, "namespace": self._watched, "labels": labels(PART, "observability")}
        role = k8s.rbac.v1.Role(
            f"{self.name}-pods",
            metadata=here,
            rules=[{"api_groups": [""], "resources": ["pods"], "verbs": _READ}],
            opts=self.child(),
        )
        k8s.rbac.v1.RoleBinding(
            f"{self.name}-pods",
            metadata=here,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": PART},
            subjects=[subject],
            opts=self.child(),
        )
        everywhere: Any = {"name": f"{self._watched}-{PART}", "labels": labels(PART, "observability")}
        cluster_role = k8s.rbac.v1.ClusterRole(
            f"{self.name}-nodes",
            metadata=everywhere,
            rules=[
                {"api_groups": [""], "resources": ["nodes"], "verbs": _READ},
                {"api_groups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
            ],
            opts=self.child(),
        )
        k8s.rbac.v1.ClusterRoleBinding(
            f"{self.name}-nodes",
            metadata=everywhere,
            role_ref={
                "api_group": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": cluster_role.metadata["name"],
            },
            subjects=[subject],
            opts=self.child(),
        )
        return role, cluster_role


def _prometheus(config: PrometheusConfig) -> tuple[str, ...]:
    """Command of the server. Four fifths of the volume hold blocks; the log and new blocks need the rest."""
    most = int(quantity(config.storage)) * 4 // 5
    return (
        "/usr/local/bin/prometheus",
        "--config.file=/etc/prometheus/prometheus.yml",
        f"--storage.tsdb.path={DATA_MOUNT}/metrics",
        f"--storage.tsdb.retention.size={most}B",
        f"--storage.tsdb.retention.time={config.keep_days}d",
        f"--web.listen-address=:{scraping.PORT}",
    )


_ALERTMANAGER = (
    "/usr/bin/prometheus-alertmanager",
    "--config.file=/etc/prometheus/alertmanager.yml",
    f"--storage.path={DATA_MOUNT}/alertmanager",
    f"--web.listen-address=:{scraping.ALERTS_PORT}",
    "--cluster.listen-address=",
)
