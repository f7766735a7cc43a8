"""A small client for the node's API server: waits for it, applies manifests, reads readiness."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError

from local.errors import LocalError
from local.node.addons import FIELD_MANAGER, Manifest

_NOT_YET = (ApiException, DynamicApiError, urllib3.exceptions.HTTPError, OSError)


def connect(kubeconfig: Path) -> client.ApiClient:
    """API client for the cluster of a kubeconfig."""
    return config.new_client_from_config(str(kubeconfig))


def wait_for(what: str, ready: Callable[[], bool], timeout_s: float, alive: Callable[[], None] | None = None) -> None:
    """Poll until `ready()` is true. Raises LocalError after `timeout_s` seconds, or as soon as `alive` raises."""
    deadline = time.monotonic() + timeout_s
    reason = ""
    while True:
        try:
            if ready():
                return
        except _NOT_YET as error:
            reason = str(error).splitlines()[0]
        if alive:
            alive()
        if time.monotonic() > deadline:
            raise LocalError(
                f"{what} was not ready after {timeout_s:.0f} s",
                reason=reason,
                fix="see the logs with `forge logs --node`; `forge up` tries again",
            )
        time.sleep(0.1)


def api_ready(api: client.ApiClient) -> bool:
    """Whether the API server reports that it is ready."""
    url = f"{api.configuration.host}/readyz"
    return api.call_api("GET", url, _request_timeout=2).status == 200


def node_ready(api: client.ApiClient) -> bool:
    """Whether every node reports Ready."""
    nodes = client.CoreV1Api(api).list_node(_request_timeout=5).items
    return bool(nodes) and all(
        any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or []) for node in nodes
    )


def deployment_ready(api: client.ApiClient, namespace: str, name: str) -> bool:
    """Whether all replicas of a Deployment's current definition are available."""
    d = client.AppsV1Api(api).read_namespaced_deployment(name, namespace, _request_timeout=5)
    return (
        (d.status.observed_generation or 0) >= d.metadata.generation
        and (d.status.available_replicas or 0) >= (d.spec.replicas or 1)
        and not d.status.unavailable_replicas
    )


def apply(api: client.ApiClient, manifests: list[Manifest]) -> None:
    """Apply manifests in order, with server-side apply."""
    dynamic = DynamicClient(api)
    for manifest in manifests:
        resource = dynamic.resources.get(api_version=manifest["apiVersion"], kind=manifest["kind"])
        dynamic.server_side_apply(
            resource,
            body=manifest,
            name=manifest["metadata"]["name"],
            namespace=manifest["metadata"].get("namespace"),
            field_manager=FIELD_MANAGER,
            force_conflicts=True,
        )
