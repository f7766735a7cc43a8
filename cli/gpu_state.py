"""How the GPUs of a node are cut at this moment, and which pods use each, as NVIDIA's DCGM exporter tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kubernetes import client
from kubernetes.client.exceptions import ApiException
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from components.cluster.gpu_operator import NAMESPACE
from components.cluster.mig import Layout
from local.errors import LocalError

EXPORTER = "app=nvidia-dcgm-exporter"
"""Label of the exporter's pods. Source: GPU operator, assets/state-dcgm-exporter."""
PORT = 9400


@dataclass
class NodeGpus:
    """The GPUs of one node."""

    layouts: list[Layout]
    users: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    """Pods, as namespace/name, by GPU."""


def parse(metrics: str, gpus: int) -> NodeGpus:
    """What the exporter's metrics say of a node with so many GPUs.

    Each series names its GPU (`gpu`), on a cut one the instance (`GPU_I_PROFILE`, `GPU_I_ID`), and the pod that uses
    it. Raises ValueError for what is no exposition, and for a GPU that the node should not have.
    """
    instances: list[dict[str, str]] = [{} for _ in range(gpus)]
    users: dict[int, set[str]] = {}
    seen: set[int] = set()
    for family in _families(metrics):
        for sample in family.samples:
            if "gpu" not in sample.labels:
                continue
            gpu = int(sample.labels["gpu"])
            if gpu >= gpus:
                raise ValueError(f"it reports GPU {gpu}; the pool's nodes have {gpus}")
            seen.add(gpu)
            if profile := sample.labels.get("GPU_I_PROFILE"):
                instances[gpu][sample.labels["GPU_I_ID"]] = profile
            if pod := sample.labels.get("pod"):
                users.setdefault(gpu, set()).add(f"{sample.labels['namespace']}/{pod}")
    if missing := sorted(set(range(gpus)) - seen):
        raise ValueError(f"it does not report GPU {missing[0]}")
    return NodeGpus([_layout(found.values()) for found in instances], {g: tuple(sorted(p)) for g, p in users.items()})


def _families(metrics: str) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(metrics))
    except ValueError as error:
        raise ValueError(f"it is not Prometheus' text format{f': {error}' if str(error) else ''}") from None


def _layout(profiles: Iterable[str]) -> Layout:
    return tuple(sorted(Counter(profiles).items()))


def metrics_of(core: client.CoreV1Api, node: str) -> str:
    """The exporter's metrics on a node, through the API server. Raises LocalError where it does not answer."""
    pods = core.list_namespaced_pod(NAMESPACE, label_selector=EXPORTER, field_selector=f"spec.nodeName={node}").items
    if not pods:
        raise LocalError(
            f"node {node} has no DCGM exporter, which knows what each GPU is used for",
            fix=f"see `kubectl get pods -n {NAMESPACE} -o wide`; the GPU operator runs one on each GPU node",
        )
    try:
        return str(
            core.connect_get_namespaced_pod_proxy_with_path(f"{pods[0].metadata.name}:{PORT}", NAMESPACE, "metrics")
        )
    except ApiException as error:
        raise LocalError(
            f"the DCGM exporter of node {node} does not answer",
            reason=f"{error.status} {error.reason}",
            fix=f"see `kubectl logs -n {NAMESPACE} {pods[0].metadata.name}`",
        ) from None
