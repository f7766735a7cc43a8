"""A simulator of what NVIDIA's device plugin and MIG manager do on a node, as far as pods can tell.

It hands slices of particular GPUs to pods, and carries out a new layout as `components.cluster.mig_plan` says: one GPU
at a time, emptied first, while pods on the other GPUs go on. It looks at the same things as the real ones: the label
nvidia.com/mig.config, the mig-parted configuration, and the pods' extended resources.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.cluster import mig, mig_plan
from components.cluster.mig import Layout, MigStrategy
from components.config_gpu import GpuPool
from local.gpu.fake_nodes import MANAGED

CONFIG = "nvidia.com/mig.config"
STATE = "nvidia.com/mig.config.state"
LAYOUT = "cogniforge.dev/mig-layout"
DEVICES = "cogniforge.dev/mig-devices"
"""Annotation of a pod: its slices, as `<GPU>/<profile or "gpu">/<number>`, separated by commas."""
_TOO_MANY_REQUESTS = 429


def layouts_of(config: str, name: str, gpus: int) -> list[Layout]:
    """The layout of each GPU from a mig-parted configuration. Raises KeyError for an unknown name."""
    found: list[Layout] = [()] * gpus
    for entry in yaml.safe_load(config)["mig-configs"][name]:
        devices = range(gpus) if entry["devices"] == "all" else entry["devices"]
        for index in devices:
            found[index] = tuple(sorted(entry.get("mig-devices", {}).items())) if entry["mig-enabled"] else ()
    return found


class MigManager:
    """The simulator for the fake nodes of one pool."""

    def __init__(self, core: client.CoreV1Api, pool: GpuPool, config: str) -> None:
        self._core, self._pool, self.config = core, pool, config
        self.evicted: list[str] = []

    def run(self, stop: threading.Event) -> None:
        """Reconcile until told to stop."""
        while not stop.wait(0.2):
            self.step()

    def step(self) -> None:
        """Look once at every node of the pool."""
        selector = f"cogniforge.dev/gpu-pool={self._pool.name}"
        for node in self._core.list_node(label_selector=selector).items:
            if (node.metadata.annotations or {}).get(MANAGED):
                pods = self._pods(node.metadata.name)
                self._hand_out(node, pods)
                self._cut(node, self._pods(node.metadata.name))

    def _pods(self, node: str) -> list[Any]:
        found = self._core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items
        return [p for p in found if p.status.phase not in ("Succeeded", "Failed") and not p.metadata.deletion_timestamp]

    def _current(self, node: Any) -> list[Layout]:
        text = (node.metadata.annotations or {}).get(LAYOUT)
        return [tuple((n, c) for n, c in g) for g in json.loads(text)] if text else [()] * self._pool.gpus

    def _wanted(self, node: Any) -> list[Layout]:
        """What the node's label says; the current layout where the configuration does not know it."""
        try:
            return layouts_of(self.config, node.metadata.labels[CONFIG], self._pool.gpus)
        except KeyError:
            return self._current(node)

    def _hand_out(self, node: Any, pods: list[Any]) -> None:
        """What the kubelet's device manager does: every container gets free slices of the kind that it asks for."""
        current = self._current(node)
        changing = {g for g, (now, then) in enumerate(zip(current, self._wanted(node), strict=True)) if now != then}
        # A GPU that is about to be cut anew takes nobody in.
        free = {s for s in _slices(current) if int(s.split("/")[0]) not in changing}
        for pod in pods:
            for taken in _devices(pod):
                free.discard(taken)
        for pod in pods:
            wanted = _requests(pod)
            if not wanted or _devices(pod):
                continue
            chosen: list[str] = []
            for profile, count in wanted.items():
                anything = profile == "gpu" and self._pool.strategy is MigStrategy.SINGLE
                fitting = sorted(s for s in free if anything or s.split("/")[1] == profile)
                chosen += fitting[:count]
            if len(chosen) < sum(wanted.values()):
                continue
            free -= set(chosen)
            patch = {"metadata": {"annotations": {DEVICES: ",".join(chosen)}}}
            self._core.patch_namespaced_pod(pod.metadata.name, pod.metadata.namespace, patch)

    def _cut(self, node: Any, pods: list[Any]) -> None:
        """What the MIG manager does after the label or its configuration changed."""
        current, name = self._current(node), node.metadata.name
        try:
            wanted = layouts_of(self.config, node.metadata.labels[CONFIG], self._pool.gpus)
        except KeyError:
            self._mark(name, "failed")
            return
        if current == wanted and (node.metadata.labels or {}).get(STATE) == "success":
            return
        self._mark(name, "pending")
        users: dict[tuple[str, int], list[str]] = {}
        for pod in pods:
            for gpu in {int(d.split("/")[0]) for d in _devices(pod)}:
                users.setdefault((name, gpu), []).append(f"{pod.metadata.namespace}/{pod.metadata.name}")
        for step in mig_plan.repartition({name: current}, wanted, users).steps:
            for pod in step.evict:
                self._evict(pod)
            if step.evict:
                return  # the next look finds the GPU empty, or a pod that may not be moved yet
            current[step.gpu] = step.after
            self._offer(name, current)
        self._offer(name, current)
        self._mark(name, "success")

    def _evict(self, pod: str) -> None:
        """Ask for an eviction; a disruption budget may refuse it."""
        namespace, name = pod.split("/")
        body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace))
        try:
            self._core.create_namespaced_pod_eviction(name, namespace, body)
        except ApiException as error:
            if error.status != _TOO_MANY_REQUESTS:
                raise
        else:
            self.evicted.append(pod)

    def _offer(self, node: str, layouts: list[Layout]) -> None:
        try:
            offered = mig.resources(self._pool.strategy, layouts)
        except mig.MigError:  # on the way to the new layout; the real plugin offers nothing then, either
            offered = {}
        before = self._core.read_node(node).status.capacity
        gone = {k: None for k in before if k.startswith("nvidia.com/") and k not in offered}
        capacity: Mapping[str, Any] = {**gone, **{k: str(v) for k, v in offered.items()}}
        self._core.patch_node_status(node, {"status": {"capacity": capacity, "allocatable": capacity}})
        self._core.patch_node(node, {"metadata": {"annotations": {LAYOUT: json.dumps(layouts)}}})

    def _mark(self, node: str, state: str) -> None:
        self._core.patch_node(node, {"metadata": {"labels": {STATE: state}}})


def _slices(layouts: list[Layout]) -> set[str]:
    """Every slice of a node: `<GPU>/<profile>/<number>`."""
    return {
        f"{gpu}/{profile}/{number}"
        for gpu, layout in enumerate(layouts)
        for profile, count in layout or (("gpu", 1),)
        for number in range(count)
    }


def _devices(pod: Any) -> list[str]:
    text = (pod.metadata.annotations or {}).get(DEVICES, "")
    return text.split(",") if text else []


def _requests(pod: Any) -> dict[str, int]:
    """How many slices of each profile a pod asks for."""
    wanted: dict[str, int] = {}
    for container in pod.spec.containers:
        for name, count in (container.resources.limits or {}).items():
            if name.startswith("nvidia.com/"):
                profile = name.removeprefix("nvidia.com/").removeprefix("mig-")
                wanted[profile] = wanted.get(profile, 0) + int(count)
    return wanted
