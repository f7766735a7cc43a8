"""Fake nodes: they exist in the API server only. KWOK keeps them ready and simulates pods without containers."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kubernetes import client

from components.cluster import mig
from components.cluster.gpu_node_pool import node_labels
from components.config.gpu import GpuPool
from local.toolchain import builder
from local.toolchain.tools import ToolName

MANAGED = "kwok.x-k8s.io/node"
STAGES = Path(__file__).with_name("stages.yaml")
_VALUE = "fake"


@contextlib.contextmanager
def kwok(kubeconfig: Path, log: Path) -> Iterator[None]:
    """Run KWOK for the fake nodes of a cluster. It ignores other nodes."""
    command = [str(builder.resolve(ToolName.KWOK)), "--kubeconfig", str(kubeconfig), "--config", str(STAGES)]
    command += ["--manage-nodes-with-annotation-selector", f"{MANAGED}={_VALUE}", "--node-ip", "127.0.0.1"]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def node(pool: GpuPool, number: int) -> dict[str, Any]:
    """One node of a pool as the cloud creates it: whole GPUs, without a MIG layout."""
    capacity = {"cpu": "192", "memory": "2Ti", "pods": "250", mig.GPU_RESOURCE: str(pool.gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"{pool.name}-{number}",
            "annotations": {MANAGED: _VALUE},
            "labels": {**node_labels(pool), "nvidia.com/gpu.product": pool.gpu.value, "kubernetes.io/os": "linux"},
        },
        "spec": {"taints": [{"key": mig.GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


@contextlib.contextmanager
def nodes(core: client.CoreV1Api, pool: GpuPool, count: int) -> Iterator[list[str]]:
    """Create fake nodes of a pool. At the end, the nodes and their pods are deleted."""
    made: list[str] = []
    try:
        for number in range(count):
            body = node(pool, number)
            core.create_node(body)
            core.patch_node_status(body["metadata"]["name"], {"status": body["status"]})
            made.append(body["metadata"]["name"])
        yield made
    finally:
        for name in made:
            for pod in core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={name}").items:
                core.delete_namespaced_pod(pod.metadata.name, pod.metadata.namespace, grace_period_seconds=0)
            core.delete_node(name)
