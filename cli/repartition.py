"""`forge repartition`: applies new MIG layouts to a pool, one node at a time. Only GPUs that change are drained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from cli import gpu_state
from cli.gpu_state import NodeGpus
from components.cluster.gpu_operator import layout_name
from components.cluster.mig_plan import Repartition, Step
from components.cluster.mig_plan import repartition as make_plan
from components.config.gpu import GpuPool
from local.errors import LocalError

CONFIG = "nvidia.com/mig.config"
STATE = "nvidia.com/mig.config.state"
_NOT_FOUND, _TOO_MANY_REQUESTS = 404, 429
Read = Callable[[str], str]
"""Function that returns the DCGM exporter's metrics for a node."""


def plan(core: client.CoreV1Api, pool: GpuPool, read: Read) -> Repartition:
    """Plan the change from the nodes' current MIG layouts to the configured ones. Raises LocalError."""
    nodes = [n.metadata.name for n in core.list_node(label_selector=f"cogniforge.dev/gpu-pool={pool.name}").items]
    found = {name: _state(name, pool, read) for name in nodes}
    pods = {(name, gpu): users for name, state in found.items() for gpu, users in state.users.items()}
    return make_plan({name: state.layouts for name, state in found.items()}, pool.layouts, pods)


def _state(node: str, pool: GpuPool, read: Read) -> NodeGpus:
    try:
        return gpu_state.parse(read(node), pool.gpus)
    except ValueError as error:
        raise LocalError(
            f"the metrics of the DCGM exporter on node {node} are not usable",
            reason=str(error),
            fix="check its metrics; they are incomplete while a node starts, and if a GPU is lost",
        ) from None


def carry_out(
    core: client.CoreV1Api, pool: GpuPool, steps: Repartition, say: Callable[[str], None], limit_s: float = 600
) -> None:
    """Carry out a plan. For each node: cordon, evict pods, let the MIG manager apply the layout, uncordon.

    `limit_s` is the time limit of each wait, in seconds. Raises LocalError with the obstacle. The node is then
    uncordoned, and another run continues from there.
    """
    by_node: dict[str, list[Step]] = {}
    for step in steps.steps:
        by_node.setdefault(step.node, []).append(step)
    for node, own in by_node.items():
        core.patch_node(node, {"spec": {"unschedulable": True}})
        try:
            for step in own:
                say(str(step))
                for pod in step.evict:
                    _evict(core, pod, limit_s)
            _cut(core, node, pool, limit_s)
        finally:
            core.patch_node(node, {"spec": {"unschedulable": None}})


def _evict(core: client.CoreV1Api, pod: str, limit_s: float) -> None:
    """Request eviction until the disruption budget allows it, then wait until the pod is deleted."""
    namespace, name = pod.split("/")
    try:
        uid = core.read_namespaced_pod(name, namespace).metadata.uid
    except ApiException as error:
        if error.status == _NOT_FOUND:
            return
        raise
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=namespace))
    asked, refusal = False, ""

    def gone() -> bool:
        nonlocal asked, refusal
        try:
            if not asked:
                core.create_namespaced_pod_eviction(name, namespace, body)
                asked = True
            return core.read_namespaced_pod(name, namespace).metadata.uid != uid
        except ApiException as error:
            if error.status == _TOO_MANY_REQUESTS:
                refusal = "a disruption budget refuses it"
                return False
            if error.status != _NOT_FOUND:
                raise
            return True

    if not _within(limit_s, gone):
        raise LocalError(
            f"pod {pod} did not leave its GPU within {limit_s:.0f} s",
            reason=refusal or "it is still terminating",
            fix=f"see `kubectl get pdb,pods -n {namespace}`, then run the same command again to continue",
        )


def _cut(core: client.CoreV1Api, node: str, pool: GpuPool, limit_s: float) -> None:
    """Set the new layout as the node's label, and wait for the MIG manager."""
    # The state is set to "pending" first, so that the "success" of the previous layout is not mistaken for the new one.
    wanted = layout_name(pool)
    core.patch_node(node, {"metadata": {"labels": {CONFIG: wanted, STATE: "pending"}}})

    def labels() -> Mapping[str, str]:
        return core.read_node(node).metadata.labels

    if not _within(limit_s, lambda: labels().get(STATE) in ("success", "failed")) or labels()[STATE] == "failed":
        raise LocalError(
            f"node {node} did not get the MIG layout {wanted}",
            reason=f"{STATE} is {labels().get(STATE)}",
            fix="see the logs of its nvidia-mig-manager pod, and check that `forge up` has deployed this layout",
        )


def _within(limit_s: float, done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if done():
            return True
        time.sleep(0.5)
    return done()
