"""Simulator of NVIDIA's device plugin, MIG manager and DCGM exporter on a node.

It assigns slices of specific GPUs to pods, applies a new MIG layout when the node's label nvidia.com/mig.config
changes, and returns the DCGM exporter's metrics. Like the real MIG manager, it evicts no pods: the layout of a GPU in
use cannot change, and the state becomes "failed".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import yaml
from kubernetes import client

from components.cluster import mig
from components.cluster.mig import Layout, MigStrategy
from components.config.gpu import GpuPool
from local.gpu.fake_nodes import MANAGED

CONFIG = "nvidia.com/mig.config"
STATE = "nvidia.com/mig.config.state"
LAYOUT = "cogniforge.dev/mig-layout"
DEVICES = "cogniforge.dev/mig-devices"
"""Annotation of a pod: its slices as `<GPU>/<profile or "gpu">/<number>`, separated by commas."""
APPLIED = "cogniforge.dev/mig-applied"
"""Annotation of a node: name of the layout that was processed last."""


def layouts_of(config: str, name: str, gpus: int) -> list[Layout]:
    """Layouts by GPU, from a mig-parted configuration. Raises KeyError for an unknown name."""
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

    def run(self, stop: threading.Event) -> None:
        """Reconcile until `stop` is set."""
        while not stop.wait(0.2):
            self.step()

    def step(self) -> None:
        """Reconcile every node of the pool once."""
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

    def _hand_out(self, node: Any, pods: list[Any]) -> None:
        """Act as the kubelet's device manager: give each container free slices of the requested profile."""
        current = self._current(node)
        free = _slices(current)
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
        """Act as the MIG manager after a change of the node's label."""
        current, name = self._current(node), node.metadata.name
        label = node.metadata.labels[CONFIG]
        if (node.metadata.annotations or {}).get(APPLIED) == label and node.metadata.labels.get(STATE) != "pending":
            return
        try:
            wanted = layouts_of(self.config, label, self._pool.gpus)
        except KeyError:
            self._mark(name, "failed", label)
            return
        used = {int(device.split("/")[0]) for pod in pods for device in _devices(pod)}
        changing = {gpu for gpu, (now, then) in enumerate(zip(current, wanted, strict=True)) if now != then}
        if changing & used:
            self._mark(name, "failed", label)
            return
        self._offer(name, wanted)
        self._mark(name, "success", label)

    def metrics(self, node: str) -> str:
        """Metrics of the DCGM exporter for a node: one series per slice, with the pod that uses it."""
        found, pods = self._core.read_node(node), self._pods(node)
        users = {device: pod for pod in pods for device in _devices(pod)}
        lines = ["# TYPE DCGM_FI_DEV_FB_USED gauge"]
        for number, device in enumerate(sorted(_slices(self._current(found)))):
            gpu, profile, _ = device.split("/")
            labels = {"gpu": gpu, "device": f"nvidia{gpu}", "Hostname": node}
            if profile != "gpu":
                labels |= {"GPU_I_PROFILE": profile, "GPU_I_ID": str(number)}
            if pod := users.get(device):
                labels |= {"pod": pod.metadata.name, "namespace": pod.metadata.namespace, "container": "main"}
            lines.append(f"DCGM_FI_DEV_FB_USED{{{','.join(f'{k}={json.dumps(v)}' for k, v in labels.items())}}} 0")
        return "\n".join(lines) + "\n"

    def _offer(self, node: str, layouts: list[Layout]) -> None:
        offered = mig.resources(self._pool.strategy, layouts)
        before = self._core.read_node(node).status.capacity
        gone = {k: None for k in before if k.startswith("nvidia.com/") and k not in offered}
        capacity: Mapping[str, Any] = {**gone, **{k: str(v) for k, v in offered.items()}}
        self._core.patch_node_status(node, {"status": {"capacity": capacity, "allocatable": capacity}})
        self._core.patch_node(node, {"metadata": {"annotations": {LAYOUT: json.dumps(layouts)}}})

    def _mark(self, node: str, state: str, label: str) -> None:
        self._core.patch_node(node, {"metadata": {"labels": {STATE: state}, "annotations": {APPLIED: label}}})


def _slices(layouts: list[Layout]) -> set[str]:
    """All slices of a node as `<GPU>/<profile>/<number>`."""
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
    """Number of slices that a pod requests, by profile."""
    wanted: dict[str, int] = {}
    for container in pod.spec.containers:
        for name, count in (container.resources.limits or {}).items():
            if name.startswith("nvidia.com/"):
                profile = name.removeprefix("nvidia.com/").removeprefix("mig-")
                wanted[profile] = wanted.get(profile, 0) + int(count)
    return wanted
