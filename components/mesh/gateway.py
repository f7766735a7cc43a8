"""The Envoy gateway: TLS, API keys, limits and routes in front of the services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai.service import NOBODY, PROGRESS_DEADLINE_S, restricted, scraper, spread
from components.base import PlatformComponent, gathered, labels, selector
from components.config.base import quantity
from components.inputs import checked
from components.mesh import envoy
from components.mesh.gateway_args import GatewayArgs
from components.mesh.gateway_inputs import GatewayInputs
from components.mesh.routes import GatewayIntent
from components.pods import customization

DRAIN_SECONDS = 15


class GatewayResources(NamedTuple):
    """Resources of the gateway."""

    deployment: k8s.apps.v1.Deployment
    service: k8s.core.v1.Service
    """The load balancer."""
    operators_service: k8s.core.v1.Service | None
    """For a port-forward, where operators' paths are not public."""
    service_account: k8s.core.v1.ServiceAccount
    configuration: k8s.core.v1.Secret
    """Envoy's."""
    network_policy: k8s.networking.v1.NetworkPolicy
    disruption_budget: k8s.policy.v1.PodDisruptionBudget | None
    """With more than one replica."""


class Gateway(PlatformComponent):
    """Envoy with TLS, API keys, limits and routes in front of services."""

    address: pulumi.Output[str]
    """Address for clients: host:port."""

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        self._inputs = inputs = checked(GatewayInputs, self, name, args)
        self._intent = intent = inputs.intent_with(
            authorizer=inputs.authorizer, spans=inputs.spans, names_backends=inputs.names_backends
        )
        super().__init__("mesh", name, inputs.shown(), opts)
        bootstrap = gathered(inputs.keys).apply(
            lambda keys: json.dumps(envoy.render(intent, keys, int(quantity(inputs.memory))), separators=(",", ":"))
        )
        # Auto-named, like all mounted files: changed content creates a new object and restarts the pods.
        config = k8s.core.v1.Secret(
            f"{name}-config",
            metadata={"namespace": inputs.namespace, "labels": labels("gateway", "mesh")},
            string_data={"envoy.json": pulumi.Output.secret(bootstrap)},
            immutable=True,
            opts=self.child(),
        )
        account = k8s.core.v1.ServiceAccount(
            name, metadata=self._meta(), automount_service_account_token=False, opts=self.child()
        )
        deployment = self._deployment(config.metadata["name"])
        service = self._service(intent)
        operators = None
        if not intent.operators.public:
            operators = self._operators_service()
            self.ports = {"gateway-operators": [intent.port]}
        policy, budget = self._network_policy(), None
        if inputs.replicas > 1:
            budget = k8s.policy.v1.PodDisruptionBudget(
                name,
                metadata=self._meta(),
                spec={"max_unavailable": 1, "selector": {"match_labels": selector("gateway")}},
                opts=self.child(),
            )
        self.resources = GatewayResources(deployment, service, operators, account, config, policy, budget)
        port = intent.port + inputs.local_port_offset
        self.address = pulumi.Output.all(service.status, deployment.metadata["name"]).apply(
            lambda both: f"{_ingress_host(cast('Mapping[str, Any] | None', both[0]))}:{port}"
        )
        probe = "the Deployment is available and /ready answers 200"
        self.finish(
            {"kind": "Deployment", "namespace": inputs.namespace, "name": "gateway", "probe": probe},
            address=self.address,
        )

    def _meta(self, **annotations: str) -> Any:
        meta: dict[str, Any] = {
            "name": "gateway",
            "namespace": self._inputs.namespace,
            "labels": labels("gateway", "mesh"),
        }
        return {**meta, "annotations": annotations} if annotations else meta

    def _deployment(self, config_name: pulumi.Input[str]) -> k8s.apps.v1.Deployment:
        args = self._inputs
        ready: Any = {"http_get": {"path": "/ready", "port": "status"}, "timeout_seconds": 3}
        container: Any = {
            "name": "envoy",
            "image": args.image,
            "args": [
                *("--config-path", "/etc/gateway/envoy.json"),
                *("--log-level", "warning"),
                *("--drain-time-s", str(DRAIN_SECONDS)),
                *("--concurrency", "2"),
                "--disable-hot-restart",
            ],
            "ports": [
                {"name": "https", "container_port": envoy.LISTEN_PORT},
                {"name": "status", "container_port": envoy.STATUS_PORT},
                *(
                    []
                    if self._intent.operators.public
                    else [{"name": "operators", "container_port": envoy.OPERATORS_PORT}]
                ),
            ],
            "startup_probe": {**ready, "period_seconds": 1, "failure_threshold": 40},
            "readiness_probe": {**ready, "period_seconds": 2, "failure_threshold": 2},
            "liveness_probe": {**ready, "period_seconds": 10, "failure_threshold": 3},
            "lifecycle": {"pre_stop": {"sleep": {"seconds": DRAIN_SECONDS}}},
            "resources": {
                "requests": {"cpu": args.cpu, "memory": args.memory},
                "limits": {"memory": args.memory},
            },
            "security_context": restricted(),
            "volume_mounts": [
                {"name": "config", "mount_path": "/etc/gateway", "read_only": True},
                {"name": "tls", "mount_path": envoy.TLS_FOLDER, "read_only": True},
                {"name": "tmp", "mount_path": "/tmp"},
            ],
        }
        pod: Any = {
            "service_account_name": "gateway",
            "automount_service_account_token": False,
            "enable_service_links": False,
            "termination_grace_period_seconds": DRAIN_SECONDS + 10,
            "topology_spread_constraints": spread("gateway"),
            "containers": [container],
            "volumes": [
                secret_files.whole("config", config_name),
                secret_files.whole("tls", args.certificate_secret),
                {"name": "tmp", "empty_dir": {"size_limit": "64Mi"}},
            ],
            "security_context": {"fs_group": NOBODY},
        }
        scrape: Any = {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(envoy.STATUS_PORT),
            "prometheus.io/path": "/stats/prometheus",
            "cogniforge.dev/certificate": args.certificate_version,
        }
        template: Any = {"metadata": {"labels": labels("gateway", "mesh"), "annotations": scrape}, "spec": pod}
        return k8s.apps.v1.Deployment(
            self.name,
            metadata=self._meta(),
            spec={
                "replicas": args.replicas,
                "revision_history_limit": 3,
                "progress_deadline_seconds": PROGRESS_DEADLINE_S,
                "selector": {"match_labels": selector("gateway")},
                "strategy": {
                    "type": "RollingUpdate",
                    "rolling_update": {"max_unavailable": 0, "max_surge": 1},
                },
                "template": customization(args.customize).template(template, "envoy"),
            },
            opts=self.child(),
        )

    def _service(self, intent: GatewayIntent) -> k8s.core.v1.Service:
        offset = self._inputs.local_port_offset
        return k8s.core.v1.Service(
            self.name,
            metadata=self._meta(**{"cogniforge.dev/local-port-offset": str(offset)} if offset else {}),
            spec={
                "type": "LoadBalancer",
                "selector": selector("gateway"),
                "ports": [{"name": "https", "port": intent.port, "target_port": "https"}],
            },
            opts=self.child(),
        )

    def _operators_service(self) -> k8s.core.v1.Service:
        """Service for port-forwards. No NetworkPolicy admits pods to its port, and no load balancer points to it."""
        meta: Any = {**self._meta(), "name": "gateway-operators"}
        return k8s.core.v1.Service(
            f"{self.name}-operators",
            metadata=meta,
            spec={
                "selector": selector("gateway"),
                "ports": [{"name": "operators", "port": self._intent.port, "target_port": "operators"}],
            },
            opts=self.child(),
        )

    def _network_policy(self) -> k8s.networking.v1.NetworkPolicy:
        return k8s.networking.v1.NetworkPolicy(
            self.name,
            metadata=self._meta(),
            spec={
                "pod_selector": {"match_labels": selector("gateway")},
                "policy_types": ["Ingress"],
                "ingress": [{"ports": [{"port": "https"}]}, {"from_": [scraper()], "ports": [{"port": "status"}]}],
            },
            opts=self.child(),
        )


def _ingress_host(status: Mapping[str, Any] | None) -> str:
    """Host that the load balancer assigned to the Service; "pending" until then."""
    balancer = cast("Mapping[str, Any]", (status or {}).get("load_balancer") or {})
    ingress = cast("list[Mapping[str, Any]]", balancer.get("ingress") or [])
    return str(ingress[0].get("hostname") or ingress[0].get("ip")) if ingress else "pending"
