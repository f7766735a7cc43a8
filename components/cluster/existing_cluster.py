"""An existing cluster, used with the parts that are installed in it."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s

from components.base import PART_OF, PlatformComponent
from components.cluster import detection
from components.cluster.detection import ClusterConflict, Found

OURS = f"app.kubernetes.io/part-of={PART_OF}"
"""Label of namespaces that the platform creates."""


class ExistingClusterResources(NamedTuple):
    """Resources of the connection."""

    provider: k8s.Provider
    """Talks to the cluster."""


class ExistingCluster(PlatformComponent):
    """The connection to the cluster of a kubeconfig context, and the parts that are installed there."""

    provider: k8s.Provider
    found: tuple[Found, ...]
    """Installed parts; empty if the cluster cannot be reached, as in a preview without access."""

    def __init__(self, name: str, context: str, opts: pulumi.ResourceOptions | None = None) -> None:
        """Raises ClusterConflict, before any resource is registered, if a part can be neither reused nor replaced."""
        own = [str(n["metadata"]["name"]) for n in _list(context, "CoreV1Api", "list_namespace", OURS)]
        found = detection.judge(_list(context, "AppsV1Api", "list_deployment_for_all_namespaces"), own)
        conflicts = [part for part in found if part.refusal]
        if conflicts:
            raise ClusterConflict(conflicts)
        super().__init__("cluster", name, {"context": context}, opts)
        self.found = tuple(found)
        self.provider = k8s.Provider(name, context=context, opts=self.child())
        self.resources = ExistingClusterResources(self.provider)
        for part in self.found:
            if part.reused:
                pulumi.log.info(f"{part.part.title} {part.version} in {part.namespace} exists and is reused", self)
        self.finish(
            {"kind": "", "namespace": "", "name": context, "probe": "the API server answers"},
            reused={part.part.chart: part.version for part in self.found if part.reused},
        )

    def has(self, chart: str) -> bool:
        """Whether an installed part is reused, so that the platform must not install it."""
        return any(part.part.chart == chart and part.reused for part in self.found)


def _client(context: str) -> Any:
    """The API client of a kubeconfig context; None if the context does not exist."""
    config: Any = importlib.import_module("kubernetes.config")
    try:
        return config.new_client_from_config(os.environ.get("KUBECONFIG"), context=context)
    except config.ConfigException:
        return None


def _list(context: str, api: str, operation: str, selector: str = "") -> list[dict[str, Any]]:
    """Objects of a cluster as JSON; empty if the cluster cannot be reached."""
    client: Any = _client(context)
    if client is None:
        return []
    kubernetes: Any = importlib.import_module("kubernetes.client")
    errors: Any = importlib.import_module("urllib3.exceptions")
    try:
        call = getattr(getattr(kubernetes, api)(client), operation)
        # The raw answer: the client's models would refuse objects with fields of a newer API server.
        answer = call(label_selector=selector, _preload_content=False, _request_timeout=10)
    except (errors.HTTPError, kubernetes.ApiException) as error:
        pulumi.log.warn(f"cannot find out which parts the cluster {context} has: {error}".splitlines()[0])
        return []
    items: list[dict[str, Any]] = json.loads(answer.data)["items"]
    return items
