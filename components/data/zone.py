"""The right to read a node's zone, for servers that spread replicas over zones."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from components.ai.service import api_server_outlet
from components.base import labels

ACCOUNT_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECONDS = 3600


def zone_reader(resource: str, namespace: pulumi.Input[str], account: str, opts: pulumi.ResourceOptions) -> None:
    """Allow a service account to read nodes (a cluster-wide resource), and its pods to connect to the API server."""
    name = pulumi.Output.concat(namespace, f"-{account}-zone")
    group = "rbac.authorization.k8s.io"
    meta: Any = {"name": name, "labels": labels(account, "data")}
    rules: Any = [{"api_groups": [""], "resources": ["nodes"], "verbs": ["get"]}]
    role = k8s.rbac.v1.ClusterRole(f"{resource}-zone", metadata=meta, rules=rules, opts=opts)
    k8s.rbac.v1.ClusterRoleBinding(
        f"{resource}-zone",
        metadata=meta,
        role_ref={"api_group": group, "kind": "ClusterRole", "name": role.metadata["name"]},
        subjects=[{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        opts=opts,
    )
    policy = {"name": f"{account}-api-server", "namespace": namespace, "labels": labels(account, "data")}
    api_server_outlet(f"{resource}-api-server", policy, account, opts)


def account_volume(name: str) -> Any:
    """Volume with a token of the pod's service account. Only containers that mount it at `ACCOUNT_MOUNT` have one."""
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    token = {"path": "token", "expiration_seconds": TOKEN_SECONDS}
    sources = [{"service_account_token": token}, {"config_map": authority}]
    return {"name": name, "projected": {"sources": sources}}
