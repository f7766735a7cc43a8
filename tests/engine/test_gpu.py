"""GPU pools on fake nodes: the real scheduler and quotas, KWOK for the nodes, a simulator for the MIG manager."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from cli import repartition
from components.cluster.gpu_node_pool import GpuNodePool
from components.cluster.gpu_operator import parted_file
from components.cluster.mig_plan import Repartition, Step
from components.config.gpu import GpuPool
from local.errors import LocalError
from local.gpu import fake_nodes
from local.gpu.mig_manager import DEVICES, STATE, MigManager
from local.node.settings import NodePaths
from tests.engine.conftest import Engine
from tests.waiting import until

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", autouse=True)
def _kwok(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    log = tmp_path_factory.mktemp("kwok") / "kwok.log"
    with fake_nodes.kwok(NodePaths().kubeconfig, log):
        yield


class Pool:
    """Fake nodes of a pool with their MIG manager, and one tenant's pods on them."""

    def __init__(self, core: client.CoreV1Api, namespace: str, pool: GpuPool) -> None:
        self.core, self.namespace, self.pool = core, namespace, pool
        self.manager = MigManager(core, pool, parted_file([pool]))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.manager.run, args=(self._stop,))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def deploy(self, pool: GpuPool) -> Repartition:
        """Apply a new layout, as the GPU operator gets it from the definition. Returns the plan."""
        self.manager.config = parted_file([pool])
        return repartition.plan(self.core, pool, self.manager.metrics)

    def cut(self, pool: GpuPool, limit_s: float = 60) -> Repartition:
        """Same as `forge repartition --apply`."""
        steps = self.deploy(pool)
        repartition.carry_out(self.core, pool, steps, print, limit_s)
        return steps

    def ask(self, name: str, resource: str, count: int = 1, **labels: str) -> None:
        """A pod that wants slices."""
        body = {
            "metadata": {"name": name, "labels": {"app": "gpu", **labels}},
            "spec": {
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
                "nodeSelector": {"cogniforge.dev/gpu-pool": self.pool.name},
                "containers": [
                    {
                        "name": "main",
                        "image": "none",
                        "resources": {"limits": {resource: str(count)}, "requests": {"cpu": "1", "memory": "1Gi"}},
                    }
                ],
            },
        }
        self.core.create_namespaced_pod(self.namespace, body)

    def pods(self) -> dict[str, Any]:
        found = self.core.list_namespaced_pod(self.namespace).items
        return {p.metadata.name: p for p in found if not p.metadata.deletion_timestamp}

    def devices(self) -> dict[str, list[str]]:
        """Slices by pod, for pods that have some."""
        held = {name: (p.metadata.annotations or {}).get(DEVICES) for name, p in self.pods().items()}
        return {name: text.split(",") for name, text in held.items() if text}

    def running(self, count: int) -> Callable[[], bool]:
        return lambda: (
            sum(p.status.phase == "Running" for p in self.pods().values()) == count and len(self.devices()) == count
        )

    def offered(self, node: str = "") -> dict[str, str]:
        capacity = self.core.read_node(node or f"{self.pool.name}-0").status.allocatable
        return {k: v for k, v in capacity.items() if k.startswith("nvidia.com/")}

    def settled(self, offered: dict[str, str]) -> Callable[[], bool]:
        def look() -> bool:
            node = self.core.read_node(f"{self.pool.name}-0")
            return node.metadata.labels.get(STATE) == "success" and self.offered() == offered

        return look


def gpus(unique: str, layouts: Any, **more: Any) -> GpuPool:
    data = {"name": unique, "gpu": "h100-80", "gpusPerNode": 4, "mig": layouts, **more}
    return GpuPool.model_validate(data)


def _args(pool: GpuPool) -> Any:
    return pool.model_dump()


@pytest.fixture
def pool(core: client.CoreV1Api, unique: str) -> Iterator[Callable[..., Pool]]:
    """Function that creates pools, which are removed at the end."""
    with_nodes: list[Any] = []
    started: list[Pool] = []
    core.create_namespace({"metadata": {"name": unique}})

    def make(layouts: Any, nodes: int = 1, **more: Any) -> Pool:
        made = Pool(core, unique, gpus(unique, layouts, **more))
        context = fake_nodes.nodes(core, made.pool, nodes)
        context.__enter__()
        with_nodes.append(context)
        made.start()
        started.append(made)
        expected = {k: str(v) for k, v in made.pool.resources.items()}
        until(made.settled(expected))
        return made

    yield make
    for made in started:
        made.stop()
    for context in with_nodes:
        context.__exit__(None, None, None)
    core.delete_namespace(unique)


MIXED = ["all-1g.10gb", {"3g.40gb": 1, "1g.10gb": 4}, "all-3g.40gb", "all-disabled"]


def test_a_node_offers_its_slices_by_kind(pool: Callable[..., Pool]) -> None:
    assert pool(MIXED).offered() == {
        "nvidia.com/gpu": "1",
        "nvidia.com/mig-1g.10gb": "11",
        "nvidia.com/mig-3g.40gb": "3",
    }


def test_pods_get_slices_of_the_requested_kind(pool: Callable[..., Pool]) -> None:
    made = pool(MIXED)
    for number in range(3):
        made.ask(f"large-{number}", "nvidia.com/mig-3g.40gb")
        made.ask(f"small-{number}", "nvidia.com/mig-1g.10gb", 2)
    made.ask("whole", "nvidia.com/gpu")
    until(made.running(7))
    kinds = {name: {d.split("/")[1] for d in held} for name, held in made.devices().items()}
    assert {k for n, k in kinds.items() if n.startswith("large") for k in k} == {"3g.40gb"}
    assert {k for n, k in kinds.items() if n.startswith("small") for k in k} == {"1g.10gb"}
    assert made.devices()["whole"] == ["3/gpu/0"]


def test_no_slice_is_given_twice(pool: Callable[..., Pool]) -> None:
    made = pool("all-1g.10gb")
    for number in range(28):
        made.ask(f"pod-{number}", "nvidia.com/mig-1g.10gb")
    until(made.running(28))
    held = [d for devices in made.devices().values() for d in devices]
    assert len(held) == len(set(held)) == 28


def test_a_pod_without_a_free_slice_stays_pending_with_the_reason(pool: Callable[..., Pool]) -> None:
    made = pool("all-1g.10gb")
    made.ask("too-large", "nvidia.com/mig-7g.80gb")

    def reason() -> str:
        conditions = made.pods()["too-large"].status.conditions or []
        return next((c.message for c in conditions if c.type == "PodScheduled" and c.status == "False"), "")

    assert "Insufficient nvidia.com/mig-7g.80gb" in until(reason)


def test_with_strategy_single_slices_are_plain_gpus(pool: Callable[..., Pool]) -> None:
    made = pool("all-2g.20gb", strategy="single")
    made.ask("pod", "nvidia.com/gpu", 2)
    until(made.running(1))
    assert {d.split("/")[1] for d in made.devices()["pod"]} == {"2g.20gb"}


def test_a_new_layout_keeps_the_neighbours_running(pool: Callable[..., Pool], unique: str) -> None:
    made = pool(["all-1g.10gb", "all-3g.40gb", "all-3g.40gb", "all-1g.10gb"])
    for number in range(14):
        made.ask(f"small-{number}", "nvidia.com/mig-1g.10gb")
    for number in range(4):
        made.ask(f"large-{number}", "nvidia.com/mig-3g.40gb")
    until(made.running(18))
    before = {name: p.metadata.uid for name, p in made.pods().items()}
    on_gpu_0 = {name for name, held in made.devices().items() if held[0].startswith("0/")}
    after = gpus(unique, ["all-2g.20gb", "all-3g.40gb", "all-3g.40gb", "all-1g.10gb"])
    steps = made.cut(after)
    assert made.settled({k: str(v) for k, v in after.resources.items()})()
    assert {n.split("/")[1] for n in steps.evicted} == on_gpu_0
    left = {name: p for name, p in made.pods().items() if p.status.phase == "Running"}
    assert {name: p.metadata.uid for name, p in left.items()} == {n: u for n, u in before.items() if n not in on_gpu_0}


def test_new_slices_take_new_pods(pool: Callable[..., Pool], unique: str) -> None:
    made = pool("all-1g.10gb")
    made.ask("waiting", "nvidia.com/mig-7g.80gb")
    made.cut(gpus(unique, ["all-7g.80gb", "all-1g.10gb", "all-1g.10gb", "all-1g.10gb"]))
    until(made.running(1))
    assert made.devices()["waiting"] == ["0/7g.80gb/0"]


def test_a_plan_changes_nothing(pool: Callable[..., Pool], unique: str) -> None:
    made = pool("all-1g.10gb", nodes=2)
    made.ask("pod", "nvidia.com/mig-1g.10gb")
    until(made.running(1))
    node, held = made.pods()["pod"].spec.node_name, int(made.devices()["pod"][0].split("/")[0])
    offered = made.offered()
    steps = made.deploy(gpus(unique, "all-3g.40gb"))
    assert [step.node for step in steps.steps[4:]] == [node] * 4, "the busy node comes last"
    assert {(step.node, step.gpu): step.evict for step in steps.steps if step.evict} == {
        (node, held): (f"{unique}/pod",)
    }
    assert made.offered() == offered


def test_a_pool_cut_as_wanted_needs_no_step(pool: Callable[..., Pool], unique: str) -> None:
    made = pool(MIXED)
    assert made.deploy(gpus(unique, MIXED)).steps == ()


def test_a_pod_that_must_not_be_disrupted_holds_its_gpu(pool: Callable[..., Pool], unique: str, api: Any) -> None:
    made = pool("all-1g.10gb")
    policy = client.PolicyV1Api(api)
    budget = {
        "metadata": {"name": "keep"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"keep": "yes"}}},
    }
    policy.create_namespaced_pod_disruption_budget(unique, budget)
    until(lambda: policy.read_namespaced_pod_disruption_budget("keep", unique).status.observed_generation is not None)
    made.ask("kept", "nvidia.com/mig-1g.10gb", keep="yes")
    until(made.running(1))
    held = int(made.devices()["kept"][0].split("/")[0])
    layouts = ["all-1g.10gb"] * 4
    layouts[held] = "all-3g.40gb"
    with pytest.raises(LocalError, match="did not leave its GPU") as refused:
        made.cut(gpus(unique, layouts), limit_s=3)
    assert "a disruption budget refuses it" in refused.value.reason
    assert made.pods()["kept"].status.phase == "Running"
    assert not made.core.read_node(f"{unique}-0").spec.unschedulable, "the node is open again"
    policy.delete_namespaced_pod_disruption_budget("keep", unique)
    assert made.cut(gpus(unique, layouts)).evicted == (f"{unique}/kept",)


def test_a_gpu_in_use_is_not_cut_under_its_pod(pool: Callable[..., Pool], unique: str) -> None:
    made = pool("all-1g.10gb")
    made.ask("pod", "nvidia.com/mig-1g.10gb")
    until(made.running(1))
    after = gpus(unique, "all-3g.40gb")
    plan = dataclasses.replace(made.deploy(after), steps=(Step(f"{unique}-0", 0, (), (), ()),))
    with pytest.raises(LocalError, match="did not get the MIG layout"):
        repartition.carry_out(made.core, after, plan, print, 60)
    assert made.pods()["pod"].status.phase == "Running"


def test_an_unknown_layout_fails_and_changes_nothing(pool: Callable[..., Pool], unique: str) -> None:
    made = pool("all-1g.10gb")
    offered = made.offered()
    made.core.patch_node(f"{unique}-0", {"metadata": {"labels": {"nvidia.com/mig.config": "no-such-layout"}}})
    until(lambda: made.core.read_node(f"{unique}-0").metadata.labels[STATE] == "failed")
    assert made.offered() == offered


def test_a_tenant_cannot_take_more_than_its_share(engine: Engine, core: client.CoreV1Api, unique: str) -> None:
    tenant = f"{unique}-tenant"
    shares = [{"namespace": tenant, "slices": {"1g.10gb": 2}}]
    engine.up(lambda: GpuNodePool(unique, _args(gpus(unique, "all-1g.10gb", tenants=shares))) and None)
    container: dict[str, Any] = {
        "name": "main",
        "image": "none",
        "resources": {"limits": {"nvidia.com/mig-1g.10gb": "3"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    with pytest.raises(ApiException, match=r"exceeded quota: gpu-.*nvidia\.com/mig-1g\.10gb=3"):
        until(
            lambda: core.create_namespaced_pod(tenant, {"metadata": {"name": "p"}, "spec": {"containers": [container]}})
        )
