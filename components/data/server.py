"""A stateful server: its intent, and the Kubernetes resources that are derived from the intent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai import service_identity
from components.ai.service import NOBODY, PROGRESS_DEADLINE_S, peers, restricted, scraper, spread
from components.base import PlatformComponent, labels, selector
from components.config.base import Resources
from components.data.document import Document, documents_volume
from components.data.zone import ACCOUNT_MOUNT, account_volume
from components.pods import PodArgs, customization

DATA_MOUNT = "/data"
_ACCOUNT = {"name": "account", "mount_path": ACCOUNT_MOUNT, "read_only": True}
_ROLL = "cogniforge.dev/config"
"""Pod annotation that changes with files and passwords, so that a change restarts the pods."""


@dataclass(frozen=True)
class Process:
    """One container of the pod."""

    name: str
    image: pulumi.Input[str]
    resources: Resources
    arguments: tuple[str, ...] = ()
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    environment: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    secrets: Mapping[str, tuple[pulumi.Input[str], str]] = field(
        default_factory=dict[str, tuple[pulumi.Input[str], str]]
    )
    """Files in `secret_files.FOLDER` of this container alone, each from (Secret, entry)."""
    waits: bool = True
    """Whether the pod waits for these Secrets."""
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment variables from fields of the pod, such as "metadata.name"."""
    ready: Any = None
    """Action of the readiness probe, such as {"tcp_socket": {"port": "kafka"}}. The other probes default to it."""
    started: Any = None
    """Action of the startup probe, if it differs from `ready`."""
    start_s: int = 120
    """Seconds until the first success of the startup probe."""
    stop: tuple[str, ...] = ()
    """Command of the preStop hook, for servers that on SIGTERM wait for all clients."""
    alive: Any = None
    """Action of the liveness probe, if it differs from `ready` or there is no `ready`."""
    alive_s: int = 90
    """Seconds of failed liveness probes after which the container restarts."""
    asks_kubernetes: bool = False
    """Whether the container has access to the Kubernetes API, as the pod's account."""
    audiences: tuple[str, ...] = ()
    """Parts to which the container authenticates, with a token of the pod's account for each."""


@dataclass(frozen=True)
class ServerIntent:
    """A stateful server and its callers."""

    name: str
    title: str
    processes: tuple[Process, ...]
    callers: tuple[str, ...]
    """Names of parts whose pods may connect to its ports, except the one of metrics and those in `inner`."""
    inner: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Ports for its own pods, by name, with the few other parts whose pods may connect."""
    folder: str = ""
    """Its files are at /etc/<folder>; default: its name."""
    prepares: tuple[Process, ...] = ()
    """Init process, which ends before the others start. It has access to the Kubernetes API."""
    replicas: int = 1
    storage: str = ""
    """Size of each replica's volume at /data; empty means no volume."""
    apart: Mapping[str, str] = field(default_factory=dict[str, str])
    """Sizes of further volumes of each replica, by name. A volume is mounted at `/<name>`."""
    metrics_port: int = 0
    stop_seconds: int = 60
    """Seconds that the server may take to shut down."""


@dataclass(frozen=True)
class ServerInputs:
    """Inputs of a server."""

    namespace: pulumi.Input[str]
    destroy_data: bool
    files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Files at /etc/<folder> without secrets."""
    secret_files: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Files at /etc/<folder>-secret, stored in a Secret."""
    mounts: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Names of Secrets by folder. Each entry of a Secret becomes a file in the folder."""
    folders: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Names of ConfigMaps by folder. Each entry of a ConfigMap becomes a file in the folder."""
    versions: Sequence[pulumi.Input[str]] = ()
    """A value that changes with the mounted passwords."""
    scratch: tuple[str, ...] = ()
    """Folders that the pod's containers share. They are empty when the pod starts."""
    memory: tuple[str, ...] = ()
    """Further such folders, in memory. What they hold counts as memory of the container that writes it."""
    annotations: Mapping[str, pulumi.Input[str]] = field(default_factory=dict[str, pulumi.Input[str]])
    """Annotations of its service account, such as the AWS role of its pods."""
    customize: PodArgs = field(default_factory=PodArgs)
    """Settings of its pods."""
    documents: tuple[Document, ...] = ()
    """Desired state that the pods read. A change does not restart them."""


def service_account(
    resource: str,
    namespace: pulumi.Input[str],
    name: str,
    opts: pulumi.ResourceOptions,
    annotations: Mapping[str, pulumi.Input[str]] | None = None,
) -> k8s.core.v1.ServiceAccount:
    """A service account for pods of the data layer. Its token is not mounted."""
    meta: Any = {"name": name, "namespace": namespace, "labels": labels(name, "data")}
    return k8s.core.v1.ServiceAccount(
        resource,
        metadata=meta | ({"annotations": annotations} if annotations else {}),
        automount_service_account_token=False,
        opts=opts,
    )


def claim_spec(storage: str) -> Any:
    """Spec of a replica's volume claim."""
    return {"access_modes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}


def _secrets_of(process: Process) -> str:
    """Name of the volume with the secrets of a container."""
    return f"{secret_files.VOLUME}-{process.name}"


def task_name(part: str) -> str:
    """Name of a part's setup tasks, which have their own service account and rights."""
    return f"{part}-task"


class DataServerResources(NamedTuple):
    """Resources of a server."""

    stateful_set: k8s.apps.v1.StatefulSet
    service: k8s.core.v1.Service
    """For clients."""
    nodes_service: k8s.core.v1.Service
    """A name for each pod."""
    service_account: k8s.core.v1.ServiceAccount
    network_policy: k8s.networking.v1.NetworkPolicy
    disruption_budget: k8s.policy.v1.PodDisruptionBudget


class DataServer(PlatformComponent):
    """StatefulSet, Services, ServiceAccount, NetworkPolicy and disruption budget of a server."""

    host: pulumi.Output[str]
    """DNS name inside the cluster. It resolves once all pods are ready."""
    callers: tuple[str, ...]
    """Parts that may connect: its own pods, and those that the intent names."""
    metrics_port: int
    """TCP port of its metrics; 0 means none."""

    def __init__(
        self, name: str, intent: ServerIntent, inputs: ServerInputs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("data", name, {"replicas": intent.replicas, "storage": intent.storage}, opts)
        self._intent, self._inputs = intent, inputs
        inner = (caller for callers in intent.inner.values() for caller in callers)
        self.callers = tuple(dict.fromkeys((intent.name, *intent.callers, *inner)))
        self.metrics_port = intent.metrics_port
        account = service_account(name, inputs.namespace, intent.name, self.child(), inputs.annotations)
        service_account(f"{name}-task", inputs.namespace, task_name(intent.name), self.child())
        service, nodes = self._services()
        self.ports = {intent.name: sorted(self._ports().values())}
        policy = self._network_policy()
        budget = k8s.policy.v1.PodDisruptionBudget(
            name,
            metadata=self._meta(),
            spec={"max_unavailable": 1, "selector": {"match_labels": selector(intent.name)}},
            opts=self.child(),
        )
        workload = self._workload()
        self.resources = DataServerResources(workload, service, nodes, account, policy, budget)
        if intent.storage:
            self._volumes_grow(workload)
        ready = pulumi.Output.all(inputs.namespace, workload.metadata["name"])
        self.host = ready.apply(lambda known: f"{known[1]}.{known[0]}.svc")
        self.finish(
            {
                "kind": "StatefulSet",
                "namespace": inputs.namespace,
                "name": intent.name,
                "probe": f"{intent.title}: every pod is ready",
            },
            host=self.host,
        )

    def _volumes_grow(self, workload: k8s.apps.v1.StatefulSet) -> None:
        """Patch the size of each claim. The claim template of a StatefulSet is immutable."""
        for number in range(self._intent.replicas):
            claim = f"data-{self._intent.name}-{number}"
            meta: Any = self._meta(claim) | {"annotations": {"pulumi.com/patchForce": "true"}}
            spec: Any = claim_spec(self._intent.storage)
            k8s.core.v1.PersistentVolumeClaimPatch(
                f"{self.name}-{number}",
                metadata=meta,
                spec=spec,
                # The claim belongs to the StatefulSet: deleting the patch must not change the claim.
                opts=self.child(depends_on=[workload], retain_on_delete=True),
            )

    def _meta(self, name: str = "") -> Any:
        return {
            "name": name or self._intent.name,
            "namespace": self._inputs.namespace,
            "labels": labels(self._intent.name, "data"),
        }

    def _ports(self) -> dict[str, int]:
        return {name: port for process in self._intent.processes for name, port in process.ports.items()}

    def _services(self) -> tuple[k8s.core.v1.Service, k8s.core.v1.Service]:
        """A Service for the ready pods, and a headless one for each pod, which peers need before the pod is ready."""
        ports = [{"name": n, "port": p, "target_port": n} for n, p in self._ports().items()]
        chosen: Any = {"selector": selector(self._intent.name), "ports": ports}
        service = k8s.core.v1.Service(self.name, metadata=self._meta(), spec=chosen, opts=self.child())
        nodes: Any = {**chosen, "cluster_ip": "None", "publish_not_ready_addresses": True}
        by_pod = k8s.core.v1.Service(
            f"{self.name}-nodes",
            metadata=self._meta(f"{self._intent.name}-nodes"),
            spec=nodes,
            opts=self.child(),
        )
        return service, by_pod

    def _network_policy(self) -> k8s.networking.v1.NetworkPolicy:
        intent = self._intent
        offered = [name for name, port in self._ports().items() if port != intent.metrics_port]
        shared = [{"port": name} for name in offered if name not in intent.inner]
        rules: Any = [  # an empty list of peers would admit everybody, and an empty list of ports all ports
            *([{"from_": peers(intent.callers), "ports": shared}] if intent.callers and shared else []),
            *({"from_": peers(who), "ports": [{"port": name}]} for name, who in intent.inner.items() if who),
        ]
        scrape: Any = [{"from_": [scraper()], "ports": [{"port": intent.metrics_port}]}] if intent.metrics_port else []
        spec: Any = {
            "pod_selector": {"match_labels": selector(intent.name)},
            "policy_types": ["Ingress"],
            "ingress": [{"from_": [{"pod_selector": {"match_labels": selector(intent.name)}}]}, *rules, *scrape],
        }
        return k8s.networking.v1.NetworkPolicy(self.name, metadata=self._meta(), spec=spec, opts=self.child())

    def _volumes(self) -> tuple[list[Any], list[Any], list[pulumi.Input[str]]]:
        """Mounts, volumes, and names that change with the volumes' content."""
        intent, inputs = self._intent, self._inputs
        mounts: list[Any] = [{"name": "tmp", "mount_path": "/tmp"}]
        volumes: list[Any] = [{"name": "tmp", "empty_dir": {"size_limit": "256Mi"}}]
        known: list[pulumi.Input[str]] = [*inputs.versions]
        for number, folder in enumerate((*inputs.scratch, *inputs.memory)):
            mounts.append({"name": f"scratch-{number}", "mount_path": folder})
            medium = {"medium": "Memory"} if folder in inputs.memory else {}
            volumes.append({"name": f"scratch-{number}", "empty_dir": {"size_limit": "64Mi", **medium}})
        if inputs.files:
            # Auto-named: changed content creates a new object, and its new name restarts the pods.
            files = k8s.core.v1.ConfigMap(
                f"{self.name}-files",
                metadata={"namespace": inputs.namespace, "labels": labels(intent.name, "data")},
                data=inputs.files,
                immutable=True,
                opts=self.child(),
            )
            mounts.append({"name": "files", "mount_path": f"/etc/{intent.folder or intent.name}", "read_only": True})
            volumes.append({"name": "files", "config_map": {"name": files.metadata["name"]}})
        if inputs.secret_files:
            secret = k8s.core.v1.Secret(
                f"{self.name}-files",
                metadata={"namespace": inputs.namespace, "labels": labels(intent.name, "data")},
                string_data=inputs.secret_files,
                immutable=True,
                opts=self.child(),
            )
            folder = f"/etc/{intent.folder or intent.name}-secret"
            mounts.append({"name": "secret-files", "mount_path": folder, "read_only": True})
            volumes.append(secret_files.whole("secret-files", secret.metadata["name"]))
        for number, (folder, secret_name) in enumerate(inputs.mounts.items()):
            mounts.append({"name": f"secret-{number}", "mount_path": folder, "read_only": True})
            volumes.append(secret_files.whole(f"secret-{number}", secret_name))
        for number, (folder, config_map) in enumerate(inputs.folders.items()):
            mounts.append({"name": f"folder-{number}", "mount_path": folder, "read_only": True})
            volumes.append({"name": f"folder-{number}", "config_map": {"name": config_map}})
        held = [p for p in intent.processes if p.secrets]
        volumes += [secret_files.volume(p.secrets, _secrets_of(p), waits=p.waits) for p in held]
        documents, document_volumes = documents_volume(inputs.documents)
        mounts += documents
        volumes += document_volumes
        if intent.storage:
            mounts.append({"name": "data", "mount_path": DATA_MOUNT})
        mounts += [{"name": name, "mount_path": f"/{name}"} for name in intent.apart]
        return mounts, volumes, known

    def _container(self, process: Process, mounts: list[Any]) -> Any:
        if process.asks_kubernetes:
            mounts = [*mounts, _ACCOUNT]
        if process.audiences:
            mounts = [*mounts, service_identity.mount()]
        if process.secrets:
            mounts = [*mounts, secret_files.mount(_secrets_of(process))]
        plain = [{"name": name, "value": value} for name, value in sorted(process.environment.items())]
        own = [{"name": n, "value_from": {"field_ref": {"field_path": f}}} for n, f in sorted(process.fields.items())]
        probes: dict[str, Any] = {}
        if process.alive and not process.ready:
            probes = {"liveness_probe": {**process.alive, "timeout_seconds": 5, "period_seconds": 30}}
        elif process.ready:
            started, alive = process.started or process.ready, process.alive or process.ready
            timing = {"timeout_seconds": 5}
            starts, ends = max(1, process.start_s // 2), max(1, process.alive_s // 15)
            probes = {
                "startup_probe": {**started, **timing, "period_seconds": 2, "failure_threshold": starts},
                "readiness_probe": {**process.ready, **timing, "period_seconds": 5, "failure_threshold": 2},
                "liveness_probe": {**alive, **timing, "period_seconds": 15, "failure_threshold": ends},
            }
        stopping = {"lifecycle": {"pre_stop": {"exec_": {"command": list(process.stop)}}}} if process.stop else {}
        return {
            "name": process.name,
            "image": process.image,
            "args": list(process.arguments),
            "env": [*plain, *own],
            "ports": [{"name": name, "container_port": port} for name, port in process.ports.items()],
            "resources": {
                "requests": {"cpu": process.resources.cpu, "memory": process.resources.memory},
                "limits": {"memory": process.resources.memory},
            },
            "security_context": restricted(),
            "volume_mounts": mounts,
            **probes,
            **stopping,
        }

    def _workload(self) -> k8s.apps.v1.StatefulSet:
        intent, inputs = self._intent, self._inputs
        mounts, volumes, known = self._volumes()
        rolled: dict[str, pulumi.Input[str]] = {_ROLL: pulumi.Output.all(*known).apply("-".join)} if known else {}
        prepares = [self._container(process, [*mounts, _ACCOUNT]) for process in intent.prepares]
        if prepares or any(process.asks_kubernetes for process in intent.processes):
            volumes.append(account_volume("account"))
        audiences = sorted({audience for process in intent.processes for audience in process.audiences})
        if audiences:
            volumes.append(service_identity.volume(audiences, answers=False))
        scrape = {"prometheus.io/scrape": "true", "prometheus.io/port": str(intent.metrics_port)}
        pod: Any = {
            "service_account_name": intent.name,
            "automount_service_account_token": False,
            "enable_service_links": False,
            **({"init_containers": prepares} if prepares else {}),
            "containers": [self._container(process, mounts) for process in intent.processes],
            "volumes": volumes,
            "security_context": {"fs_group": NOBODY, "fs_group_change_policy": "OnRootMismatch"},
            "termination_grace_period_seconds": intent.stop_seconds,
            "topology_spread_constraints": spread(intent.name),
        }
        notes = {**(scrape if intent.metrics_port else {}), **rolled}
        template: Any = {"metadata": {"labels": labels(intent.name, "data"), "annotations": notes}, "spec": pod}
        sizes = {**({"data": intent.storage} if intent.storage else {}), **intent.apart}
        claims: Any = [
            {"metadata": {"name": name, "labels": labels(intent.name, "data")}, "spec": claim_spec(size)}
            for name, size in sizes.items()
        ]
        # Claims outlive the StatefulSet, unless the configuration allows deletion of data.
        policy = {"when_deleted": "Delete" if inputs.destroy_data else "Retain", "when_scaled": "Retain"}
        kept = {"persistent_volume_claim_retention_policy": policy}
        spec: Any = {
            "replicas": intent.replicas,
            "service_name": f"{intent.name}-nodes",
            # With ordered updates, a pod that cannot start would block the update that repairs it.
            "pod_management_policy": "Parallel",
            "revision_history_limit": 3,
            "selector": {"match_labels": selector(intent.name)},
            "template": customization(inputs.customize).template(template, intent.name),
            **({"volume_claim_templates": claims, **kept} if claims else {}),
        }
        return k8s.apps.v1.StatefulSet(
            self.name,
            metadata=self._meta(),
            spec=spec,
            opts=self.child(
                protect=bool(intent.storage) and not inputs.destroy_data,
                # The template is immutable; see `_volumes_grow`.
                ignore_changes=["spec.volumeClaimTemplates"],
                custom_timeouts={"create": f"{PROGRESS_DEADLINE_S}s", "update": f"{PROGRESS_DEADLINE_S}s"},
            ),
        )
