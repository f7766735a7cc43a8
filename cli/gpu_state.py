"""Current MIG layouts of a node's GPUs, and the pods that use them, from NVIDIA's DCGM exporter."""

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
    """MIG layouts and pods of one node."""

    layouts: list[Layout]
    users: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    """Pods, as namespace/name, by GPU."""


def parse(metrics: str, gpus: int) -> NodeGpus:
    """State of a node with `gpus` GPUs, from the exporter's metrics.

    Each series has labels for its GPU (`gpu`), its MIG instance (`GPU_I_PROFILE`, `GPU_I_ID`) if MIG is on, and the pod
    that uses it. Raises ValueError if the text is no Prometheus exposition, or if GPUs are missing or unknown.
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
                raise ValueError(f"the metrics contain GPU {gpu}, but the pool's nodes have {gpus}")
            seen.add(gpu)
            if profile := sample.labels.get("GPU_I_PROFILE"):
                instances[gpu][sample.labels["GPU_I_ID"]] = profile
            if pod := sample.labels.get("pod"):
                users.setdefault(gpu, set()).add(f"{sample.labels['namespace']}/{pod}")
    if missing := sorted(set(range(gpus)) - seen):
        raise ValueError(f"the metrics lack GPU {missing[0]}")
    return NodeGpus([_layout(found.values()) for found in instances], {g: tuple(sorted(p)) for g, p in users.items()})


def _families(metrics: str) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(metrics))
    except ValueError as error:
        raise ValueError(
            f"the metrics are not in Prometheus' text format{f': {error}' if str(error) else ''}"
        ) from None


def _layout(profiles: Iterable[str]) -> Layout:
    return tuple(sorted(Counter(profiles).items()))


def metrics_of(core: client.CoreV1Api, node: str) -> str:
    """The exporter's metrics for a node, through the API server. Raises LocalError if the exporter does not answer."""
    pods = core.list_namespaced_pod(NAMESPACE, label_selector=EXPORTER, field_selector=f"spec.nodeName={node}").items
    if not pods:
        raise LocalError(
            f"node {node} has no DCGM exporter, which reports the use of each GPU",
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
