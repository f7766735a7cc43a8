"""A stateless service: its intent, and the Kubernetes resources that are derived from the intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai import service_identity
from components.base import SCRAPER, PlatformComponent, labels, selector
from components.config.base import Resources
from components.pods import CustomizeArgs, customization

PROGRESS_DEADLINE_S = 600
"""Seconds without progress after which a rollout has failed. It includes time to add a node."""
START_S = 180
"""Seconds that a service may take to start. A node that starts all services at once is several times slower."""
DRAIN_DELAY_S = 5
"""Seconds that a stopping pod still serves requests, until all callers have learned that it is leaving."""
NOBODY = 65532


@dataclass(frozen=True)
class ServiceIntent:
    """A service and its callers. Deployment, NetworkPolicy and disruption budget are derived from it."""

    name: str
    port: int
    callers: tuple[str, ...]
    """Parts whose pods may connect to `port`."""
    replicas: int
    resources: Resources
    ready_path: str = "/readyz"
    live_path: str = "/healthz"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    arguments: tuple[str, ...] = ()
    metrics: bool = True
    drain_seconds: int = 20
    scratch_mib: int = 64
    """Size of the volume for temporary files, which is deleted with the pod."""
    rpc_port: int = 0
    """TCP port for gRPC; 0 means none. The headless Service `<name>-rpc` gives callers the address of each pod."""
    rpc_callers: tuple[str, ...] = ()
    """Services that may call it over gRPC. They authenticate with service account tokens."""
    migration: tuple[str, ...] = ()
    """Command that brings its tables up to date before it starts; empty: none runs."""
    reads: tuple[tuple[str, str], ...] = ()
    """(API group, resource) pairs that it may list and watch in its namespace. Without any, it has no API token."""

    @property
    def all_callers(self) -> tuple[str, ...]:
        """Parts that may connect to at least one of its ports."""
        return tuple(dict.fromkeys((*self.callers, *self.rpc_callers)))


class AiServiceArgs(CustomizeArgs):
    """Inputs of an `AiService`."""

    namespace: pulumi.Input[str]
    image: pulumi.Input[str]
    """Image reference by digest."""
    files: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Content by file name, mounted read-only at /etc/<name>. A change restarts the pods, one by one."""
    environment: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Environment variables besides those of the intent, such as addresses of other parts."""
    secrets: NotRequired[Mapping[str, tuple[pulumi.Input[str], str]]]
    """Files in `secret_files.FOLDER`, each from (Secret, entry). Pods start once the Secrets exist, and a new value
    arrives within about a minute, without a restart."""
    secret_variables: NotRequired[Mapping[str, tuple[pulumi.Input[str], str]]]
    """Environment variables from (Secret, entry), for a user's own service that asks for them."""
    versions: NotRequired[Sequence[pulumi.Input[str]]]
    """A value that changes with the secrets, so that a change restarts the pods."""
    credentials: NotRequired[Mapping[str, tuple[str, str]]]
    """Files below /etc/<name>-credentials from (Secret, entry). The operator creates these Secrets: pods start without
    them, and a new value arrives within about a minute, without a restart."""
    shown: NotRequired[Mapping[str, str]]
    """Files below the same folder, each with a token of the pod's service account for the given audience."""
    asks: NotRequired[Sequence[str]]
    """Services that it calls over gRPC. It gets a token for each."""
    outlets: NotRequired[Sequence[int]]
    """TCP ports on which it may connect to addresses outside the cluster."""
    shows: NotRequired[Mapping[str, tuple[str, int]]]
    """(namespace, TCP port) of servers outside the platform's namespace whose content it shows, by purpose."""
    collector: NotRequired[tuple[str, int]]
    """(namespace, TCP port) of the collector of traces inside the cluster."""
    annotations: NotRequired[Mapping[str, pulumi.Input[str]]]
    """Annotations of its service account, such as the AWS role of its pods."""


class AiServiceResources(NamedTuple):
    """Resources of a service."""

    deployment: k8s.apps.v1.Deployment
    service: k8s.core.v1.Service
    """REST and metrics."""
    rpc_service: k8s.core.v1.Service | None
    """gRPC, where it serves gRPC."""
    service_account: k8s.core.v1.ServiceAccount
    network_policy: k8s.networking.v1.NetworkPolicy
    disruption_budget: k8s.policy.v1.PodDisruptionBudget | None
    """With more than one replica."""


class AiService(PlatformComponent):
    """A service: Deployment, Service, ServiceAccount, NetworkPolicy, disruption budget."""

    url: pulumi.Output[str]
    """Base URL inside the cluster."""
    leaves: bool
    """Whether it may connect to addresses outside the platform's namespace."""

    def __init__(
        self,
        name: str,
        intent: ServiceIntent,
        args: AiServiceArgs,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ai", name, args, opts)
        self._intent, self._namespace, self._args = intent, args["namespace"], args
        account = k8s.core.v1.ServiceAccount(
            name,
            metadata=self._meta(**args.get("annotations", {})),
            automount_service_account_token=False,
            opts=self.child(),
        )
        mounts, volumes = self._files(args.get("files", {}))
        if sources := service_identity.sources(args.get("credentials", {}), args.get("shown", {})):
            mounts.append({"name": "credentials", "mount_path": f"/etc/{intent.name}-credentials", "read_only": True})
            volumes.append(secret_files.projected("credentials", sources))
        if secrets := args.get("secrets"):
            mounts.append(secret_files.mount())
            volumes.append(secret_files.volume(secrets))
        if (asks := args.get("asks", ())) or intent.rpc_port:
            mounts.append(service_identity.mount())
            volumes.append(service_identity.volume(asks, answers=bool(intent.rpc_port)))
        deployment = self._deployment(args["image"], mounts, volumes)
        service, rpc_service = self._service(), self._rpc_service()
        rpc = {f"{intent.name}-rpc": [intent.rpc_port]} if intent.rpc_port else {}
        self.ports = {intent.name: [intent.port], **rpc}
        policy = self._network_policy()
        ports, others = args.get("outlets", ()), {"traces": args.get("collector"), **args.get("shows", {})}
        if ports:
            self._outlet("outside", outlet_spec(ports))
        for purpose, place in others.items():
            if place:
                self._outlet(purpose, collector_spec(*place))
        if intent.reads:
            self._reader()
        self.leaves = bool(ports or any(others.values()) or intent.reads or intent.rpc_port)
        if intent.reads or intent.rpc_port:
            meta = {**self._meta(), "name": f"{intent.name}-api-server"}
            api_server_outlet(f"{name}-api-server", meta, intent.name, self.child())
        budget = self._budget() if intent.replicas > 1 else None
        self.resources = AiServiceResources(deployment, service, rpc_service, account, policy, budget)
        # The URL resolves once the pods are ready, so resources that use it are created after that.
        ready = pulumi.Output.all(self._namespace, deployment.metadata["name"], service.metadata["name"])
        self.url = ready.apply(lambda known: f"http://{known[2]}.{known[0]}:{intent.port}")
        probe = f"GET {intent.ready_path} answers 200"
        self.finish(
            {"kind": "Deployment", "namespace": self._namespace, "name": intent.name, "probe": probe},
            url=self.url,
        )

    def _budget(self) -> k8s.policy.v1.PodDisruptionBudget:
        return k8s.policy.v1.PodDisruptionBudget(
            self.name,
            metadata=self._meta(),
            spec={"max_unavailable": 1, "selector": {"match_labels": selector(self._intent.name)}},
            opts=self.child(),
        )

    def _meta(self, **annotations: pulumi.Input[str]) -> Any:
        meta: dict[str, Any] = {
            "name": self._intent.name,
            "namespace": self._namespace,
            "labels": labels(self._intent.name, "ai"),
        }
        return {**meta, "annotations": annotations} if annotations else meta

    def _files(self, files: Mapping[str, pulumi.Input[str]]) -> tuple[Any, Any]:
        if not files:
            return [], []
        # Auto-named: changed content creates a new object, and running pods keep the old one.
        config = k8s.core.v1.ConfigMap(
            f"{self.name}-files",
            metadata={"namespace": self._namespace, "labels": labels(self._intent.name, "ai")},
            data=files,
            immutable=True,
            opts=self.child(),
        )
        mount = {"name": "files", "mount_path": f"/etc/{self._intent.name}", "read_only": True}
        return [mount], [{"name": "files", "config_map": {"name": config.metadata["name"]}}]

    def _environment(self) -> list[Any]:
        plain: dict[str, pulumi.Input[str]] = {**self._intent.environment, **self._args.get("environment", {})}
        if self._intent.rpc_port:
            plain |= service_identity.environment(self._namespace, self._intent.rpc_callers)
        held = self._args.get("secret_variables", {})
        return [
            *({"name": name, "value": value} for name, value in sorted(plain.items())),
            *secret_files.variables(held),
        ]

    def _probe(self, path: str, period_s: int, failures: int) -> Any:
        return {
            "http_get": {"path": path, "port": "http"},
            "period_seconds": period_s,
            "failure_threshold": failures,
            "timeout_seconds": 3,
        }

    def _ports(self) -> list[tuple[str, int]]:
        rpc = self._intent.rpc_port
        return [("http", self._intent.port), *([("grpc", rpc)] if rpc else [])]

    def _deployment(self, image: pulumi.Input[str], mounts: Any, volumes: Any) -> k8s.apps.v1.Deployment:
        intent = self._intent
        container: Any = {
            "name": intent.name,
            "image": image,
            "args": list(intent.arguments),
            "env": self._environment(),
            "ports": [{"name": name, "container_port": port} for name, port in self._ports()],
            "startup_probe": self._probe(intent.live_path, 1, START_S),
            "readiness_probe": self._probe(intent.ready_path, 2, 2),
            "liveness_probe": self._probe(intent.live_path, 10, 3),
            "lifecycle": {"pre_stop": {"sleep": {"seconds": DRAIN_DELAY_S}}},
            "resources": {
                "requests": {"cpu": intent.resources.cpu, "memory": intent.resources.memory},
                "limits": {"memory": intent.resources.memory},
            },
            "security_context": restricted(),
            "volume_mounts": [{"name": "tmp", "mount_path": "/tmp"}, *mounts],
        }
        first: Any = {
            "name": "tables",
            "image": image,
            "command": list(intent.migration),
            **{key: container[key] for key in ("env", "resources", "security_context", "volume_mounts")},
        }
        pod: Any = {
            **({"init_containers": [first]} if intent.migration else {}),
            "service_account_name": intent.name,
            "automount_service_account_token": bool(intent.reads),
            "enable_service_links": False,
            "containers": [container],
            "security_context": {"fs_group": NOBODY},
            "volumes": [{"name": "tmp", "empty_dir": {"size_limit": f"{intent.scratch_mib}Mi"}}, *volumes],
            "termination_grace_period_seconds": DRAIN_DELAY_S + intent.drain_seconds + 10,
            "topology_spread_constraints": spread(intent.name),
        }
        notes: dict[str, pulumi.Input[str]] = {}
        if intent.metrics:
            notes |= {"prometheus.io/scrape": "true", "prometheus.io/port": str(intent.port)}
        if versions := self._args.get("versions"):
            notes["cogniforge.dev/secrets"] = pulumi.Output.all(*versions).apply("-".join)
        if self._args.get("secret_variables"):
            notes[secret_files.IN_ENVIRONMENT_NOTE] = "environment"
        template: Any = {"metadata": {"labels": labels(intent.name, "ai"), "annotations": notes}, "spec": pod}
        return k8s.apps.v1.Deployment(
            self.name,
            metadata=self._meta(),
            spec={
                "replicas": intent.replicas,
                "revision_history_limit": 3,
                "progress_deadline_seconds": PROGRESS_DEADLINE_S,
                "selector": {"match_labels": selector(intent.name)},
                "strategy": {
                    "type": "RollingUpdate",
                    "rolling_update": {"max_unavailable": 0, "max_surge": 1},
                },
                "template": customization(self._args.get("customize")).template(template, intent.name),
            },
            opts=self.child(),
        )

    def _rpc_service(self) -> k8s.core.v1.Service | None:
        """Headless: HTTP/2 connections are long-lived, so callers must balance over the pods themselves."""
        intent = self._intent
        if not intent.rpc_port:
            return None
        port = {"name": "grpc", "port": intent.rpc_port, "target_port": "grpc", "app_protocol": "grpc"}
        spec: Any = {"cluster_ip": "None", "selector": selector(intent.name), "ports": [port]}
        meta: Any = {**self._meta(), "name": f"{intent.name}-rpc"}
        return k8s.core.v1.Service(f"{self.name}-rpc", metadata=meta, spec=spec, opts=self.child())

    def _service(self) -> k8s.core.v1.Service:
        intent = self._intent
        return k8s.core.v1.Service(
            self.name,
            metadata=self._meta(),
            spec={
                "selector": selector(intent.name),
                "ports": [{"name": "http", "port": intent.port, "target_port": "http", "app_protocol": "http"}],
            },
            opts=self.child(),
        )

    def _network_policy(self) -> k8s.networking.v1.NetworkPolicy:
        intent = self._intent
        ingress = [
            {"from_": peers(intent.callers), "ports": [{"port": "http"}]},
            *([{"from_": peers(intent.rpc_callers), "ports": [{"port": "grpc"}]}] if intent.rpc_port else []),
            *([{"from_": [scraper()], "ports": [{"port": "http"}]}] if intent.metrics else []),
        ]
        spec = {"policy_types": ["Ingress"], "ingress": ingress}
        return network_policy(self.name, self._meta(), intent.name, spec, self.child())

    def _outlet(self, purpose: str, spec: Any) -> None:
        """Allow connections out of the namespace."""
        name = self._intent.name
        meta = {**self._meta(), "name": f"{name}-{purpose}"}
        network_policy(f"{self.name}-{purpose}", meta, name, spec, self.child())

    def _reader(self) -> None:
        """Role and binding for the resources that the service watches."""
        rules: Any = [{"api_groups": [g], "resources": [r], "verbs": ["list", "watch"]} for g, r in self._intent.reads]
        role = k8s.rbac.v1.Role(self.name, metadata=self._meta(), rules=rules, opts=self.child())
        k8s.rbac.v1.RoleBinding(
            self.name,
            metadata=self._meta(),
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata["name"]},
            subjects=[{"kind": "ServiceAccount", "name": self._intent.name, "namespace": self._namespace}],
            opts=self.child(),
        )


def outlet_spec(ports: Sequence[int]) -> Any:
    """Egress spec of a NetworkPolicy: these ports at all addresses except link-local ones, such as cloud metadata."""
    anywhere: Any = {"ip_block": {"cidr": "0.0.0.0/0", "except_": ["169.254.0.0/16"]}}
    return {
        "policy_types": ["Egress"],
        "egress": [{"to": [anywhere], "ports": [{"port": port, "protocol": "TCP"} for port in ports]}],
    }


def collector_spec(namespace: str, port: int) -> Any:
    """Egress spec of a NetworkPolicy: this port of all pods of another namespace."""
    peer = {"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": namespace}}}
    return {"policy_types": ["Egress"], "egress": [{"to": [peer], "ports": [{"port": port, "protocol": "TCP"}]}]}


def api_server_outlet(resource: str, meta: Any, pods: str, opts: pulumi.ResourceOptions) -> None:
    """Allow pods of this name to connect to the API server. The namespace denies egress by default."""
    # The API server is not a pod, so a policy can only name its port.
    spec = {"policy_types": ["Egress"], "egress": [{"ports": [{"port": 443}, {"port": 6443}]}]}
    network_policy(resource, meta, pods, spec, opts)


def network_policy(
    resource: str, meta: Any, pods: str, directions: Mapping[str, Any], opts: pulumi.ResourceOptions
) -> k8s.networking.v1.NetworkPolicy:
    """A NetworkPolicy for the pods of this name. `directions` is its spec without the pod selector."""
    spec: Any = {"pod_selector": {"match_labels": selector(pods)}, **directions}
    return k8s.networking.v1.NetworkPolicy(resource, metadata=meta, spec=spec, opts=opts)


def peers(parts: Sequence[str]) -> Any:
    """NetworkPolicy peers: the pods of these parts."""
    return [{"pod_selector": {"match_labels": selector(part)}} for part in parts]


def scraper() -> Any:
    """NetworkPolicy peer: the pods of the metrics collector."""
    namespace, name = SCRAPER
    return {
        "namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": namespace}},
        "pod_selector": {"match_labels": {"app.kubernetes.io/name": name}},
    }


def restricted() -> Any:
    """Security context of a container: the restricted Pod Security Standard plus a read-only root file system."""
    return {
        "allow_privilege_escalation": False,
        "read_only_root_filesystem": True,
        "run_as_non_root": True,
        "run_as_user": NOBODY,
        "run_as_group": NOBODY,
        "capabilities": {"drop": ["ALL"]},
        "seccomp_profile": {"type": "RuntimeDefault"},
    }


def spread(part: str) -> Any:
    """Topology spread constraints: replicas on different nodes and zones, if there are several."""
    return [
        {
            "max_skew": 1,
            "topology_key": key,
            "when_unsatisfiable": "ScheduleAnyway",
            "label_selector": {"match_labels": selector(part)},
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
