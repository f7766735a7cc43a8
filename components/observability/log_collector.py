"""The OpenTelemetry Collector on each node: it sends the log lines of the platform's pods to the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s

from components import secret_files
from components.ai.service import PROGRESS_DEADLINE_S, network_policy, restricted
from components.base import ADMISSION_LABEL, PlatformComponent, labels, selector
from components.cluster.namespace import PlatformNamespace
from components.config.base import quantity
from components.config.logs import Logs
from components.config.web import port
from components.data.zone import ACCOUNT_MOUNT, account_volume
from components.observability import log_pipeline
from components.observability.log_names import COLLECTOR, COLLECTOR_NAMESPACE, NODE_FOLDER, STORE_NAMESPACE
from components.observability.log_store import LogStore

_FOLDER = "/etc/collector"
_LOG_FILES = "pods"
_ROOT_GROUP = 0
"""Group of the files below /var/log/pods. Their owner is root, and others may not read them."""
_API_PORTS = (443, 6443)


class OpenTelemetryCollectorArgs(TypedDict):
    """Inputs of the collector."""

    namespace: str
    """Namespace of the platform."""
    namespaces: Sequence[str]
    """Namespaces whose pods' lines are collected."""
    owner: str
    """Person or group responsible for the collector's namespace."""
    image: pulumi.Input[str]
    """Image of the collector, by digest."""
    store: LogStore
    """Where lines go."""


class OpenTelemetryCollectorResources(NamedTuple):
    """Resources of the collector."""

    namespace: PlatformNamespace
    daemon_set: k8s.apps.v1.DaemonSet
    roles: Sequence[k8s.rbac.v1.Role]
    """Rights to find pods, in each namespace whose lines are collected."""


class OpenTelemetryCollector(PlatformComponent):
    """A pod on each node that reads /var/log/pods. Nothing may connect to it.

    The pod is not root, has no capabilities, and mounts nothing else of its node. Pod Security has no level that admits
    this one folder, so the namespace has the level "privileged", and the platform's admission policy admits the folder
    to pods of this service account alone.
    """

    def __init__(
        self, name: str, config: Logs, args: OpenTelemetryCollectorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("observability", name, {"namespaces": list(args["namespaces"])}, opts)
        self._config, self._args = config, args
        level = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn", "audit")}
        space = PlatformNamespace(
            f"{name}-namespace",
            {
                "namespace": COLLECTOR_NAMESPACE,
                "owner": args["owner"],
                "labels": {ADMISSION_LABEL: args["namespace"], **level},
            },
            self.child(),
        )
        meta: Any = {"name": COLLECTOR, "namespace": space.namespace, "labels": labels(COLLECTOR, "observability")}
        account = k8s.core.v1.ServiceAccount(
            name, metadata=meta, automount_service_account_token=False, opts=self.child()
        )
        self._egress(meta)
        roles = [self._role(found, account) for found in args["namespaces"]]
        daemon_set = k8s.apps.v1.DaemonSet(
            name,
            metadata=meta,
            spec={
                "selector": {"match_labels": selector(COLLECTOR)},
                "revision_history_limit": 3,
                "update_strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": "20%"}},
                "template": self._template(meta),
            },
            opts=self.child(
                depends_on=roles,
                custom_timeouts={"create": f"{PROGRESS_DEADLINE_S}s", "update": f"{PROGRESS_DEADLINE_S}s"},
            ),
        )
        self.resources = OpenTelemetryCollectorResources(space, daemon_set, roles)
        self.finish(
            {
                "kind": "DaemonSet",
                "namespace": space.namespace,
                "name": COLLECTOR,
                "probe": "the collector of each node is ready",
            }
        )

    def _egress(self, meta: Any) -> None:
        """To the store and the API server, which a policy can name by its ports only."""
        store: dict[str, Any] = {"ports": [{"port": port(self._args["store"].url)}]}
        if not self._config.loki:
            store["to"] = [{"namespace_selector": {"match_labels": {"kubernetes.io/metadata.name": STORE_NAMESPACE}}}]
        spec = {"policy_types": ["Egress"], "egress": [store, {"ports": [{"port": number} for number in _API_PORTS]}]}
        policy = {**meta, "name": f"{COLLECTOR}-egress"}
        network_policy(f"{self.name}-egress", policy, COLLECTOR, spec, self.child())

    def _role(self, namespace: str, account: k8s.core.v1.ServiceAccount) -> k8s.rbac.v1.Role:
        meta: Any = {"name": COLLECTOR, "namespace": namespace, "labels": labels(COLLECTOR, "observability")}
        role = k8s.rbac.v1.Role(
            f"{self.name}-{namespace}",
            metadata=meta,
            rules=[{"api_groups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
            opts=self.child(depends_on=[self._args["store"]]),
        )
        k8s.rbac.v1.RoleBinding(
            f"{self.name}-{namespace}",
            metadata=meta,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": role.metadata["name"]},
            subjects=[
                {
                    "kind": "ServiceAccount",
                    "name": account.metadata["name"],
                    "namespace": account.metadata["namespace"],
                }
            ],
            opts=self.child(),
        )
        return role

    def _headers(self, meta: Any) -> tuple[dict[str, str], dict[str, tuple[pulumi.Input[str], str]]]:
        """Headers of requests to the store, and the file with the login."""
        loki, store = self._config.loki, self._args["store"]
        entry = "authorization"
        secret: pulumi.Input[str] | None = loki.secret_name if loki else None
        if store.authorization is not None:
            login_meta: Any = {**meta, "name": f"{COLLECTOR}-login"}
            made = k8s.core.v1.Secret(
                f"{self.name}-login",
                metadata=login_meta,
                string_data={entry: store.authorization},
                opts=self.child(),
            )
            secret = made.metadata["name"]
        # The collector reads the file when it starts.
        login = {"Authorization": f"${{file:{secret_files.path(entry)}}}"} if secret else {}
        tenant = {"X-Scope-OrgID": loki.tenant} if loki and loki.tenant else {}
        return {**login, **tenant}, ({entry: (secret, entry)} if secret else {})

    def _template(self, meta: Any) -> Any:
        args, resources = self._args, self._config.collector
        headers, files = self._headers(meta)
        destination = log_pipeline.Destination(args["store"].url, headers)
        content = json.dumps(log_pipeline.configuration(destination, args["namespaces"]), indent=1)
        # Auto-named: changed content creates a new object, and its new name restarts the pods.
        config_map = k8s.core.v1.ConfigMap(
            f"{self.name}-files",
            metadata={"namespace": meta["namespace"], "labels": meta["labels"]},
            data={"collector.json": content},
            immutable=True,
            opts=self.child(),
        )
        probe = {"http_get": {"path": "/", "port": "health"}, "timeout_seconds": 5}
        own_field = {"field_ref": {"field_path": "spec.nodeName"}}
        container = {
            "name": COLLECTOR,
            "image": args["image"],
            "args": [f"--config={_FOLDER}/collector.json", f"--feature-gates={log_pipeline.FEATURE_GATES}"],
            "env": [
                # Go collects garbage sooner when it comes near the limit of the container.
                {"name": "GOMEMLIMIT", "value": str(int(quantity(resources.memory)) * 4 // 5)},
                {"name": "NODE_NAME", "value_from": own_field},
            ],
            "ports": [{"name": "health", "container_port": log_pipeline.HEALTH_PORT}],
            "resources": {
                "requests": {"cpu": resources.cpu, "memory": resources.memory},
                "limits": {"memory": resources.memory},
            },
            "security_context": {**restricted(), "run_as_group": _ROOT_GROUP},
            "startup_probe": {**probe, "period_seconds": 2, "failure_threshold": 60},
            "readiness_probe": {**probe, "period_seconds": 5, "failure_threshold": 2},
            "liveness_probe": {**probe, "period_seconds": 15, "failure_threshold": 6},
            "volume_mounts": [
                {"name": "files", "mount_path": _FOLDER, "read_only": True},
                {"name": _LOG_FILES, "mount_path": NODE_FOLDER, "read_only": True},
                {"name": "state", "mount_path": log_pipeline.STATE},
                {"name": "account", "mount_path": ACCOUNT_MOUNT, "read_only": True},
                *([secret_files.mount()] if files else []),
            ],
        }
        version = args["store"].version
        return {
            "metadata": {
                "labels": labels(COLLECTOR, "observability"),
                **({"annotations": {"cogniforge.dev/config": version}} if version else {}),
            },
            "spec": {
                "service_account_name": COLLECTOR,
                "automount_service_account_token": False,
                "enable_service_links": False,
                "containers": [container],
                # On every node, whatever it is kept free for.
                "tolerations": [{"operator": "Exists"}],
                "security_context": {"fs_group": _ROOT_GROUP},
                "termination_grace_period_seconds": 30,
                "volumes": [
                    {"name": "files", "config_map": {"name": config_map.metadata["name"]}},
                    {"name": _LOG_FILES, "host_path": {"path": NODE_FOLDER, "type": "Directory"}},
                    {"name": "state", "empty_dir": {"size_limit": log_pipeline.STATE_VOLUME}},
                    account_volume("account"),
                    *([secret_files.volume(files)] if files else []),
                ],
            },
        }
