"""NVIDIA's GPU operator: device plugin, MIG manager, metrics, and driver and toolkit if the nodes lack them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import pulumi
import pulumi_kubernetes as k8s
import yaml

from components.base import PlatformComponent, labels
from components.cluster import mig
from components.cluster.gpu_inputs import GpuOperatorArgs, GpuOperatorInputs
from components.cluster.mig import MigStrategy
from components.config.gpu import GpuPool
from components.delivery.chart import Operator
from components.inputs import checked

NAMESPACE = "gpu-operator"
LAYOUTS = "mig-layouts"
_BUILT_IN_DISABLED = "all-disabled"


class GpuOperatorResources(NamedTuple):
    """Resources of the GPU operator."""

    operator: Operator
    layouts: k8s.core.v1.ConfigMap
    """MIG layouts of all pools."""


class GpuOperator(PlatformComponent):
    """The operator. Its MIG configuration contains the layouts of all pools."""

    def __init__(self, name: str, args: GpuOperatorArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        inputs = checked(GpuOperatorInputs, self, name, args)
        pools = inputs.pools
        super().__init__("cluster", name, {"pools": [pool.name for pool in pools]}, opts)
        operator = Operator(
            "cluster",
            f"{name}-release",
            {
                "chart": "gpu-operator",
                "namespace": NAMESPACE,
                "deployment": "gpu-operator",
                "values": values(pools, inputs.preinstalled, inputs.monitored),
                "privileged": True,
            },
            self.child(),
        )
        layouts = k8s.core.v1.ConfigMap(
            f"{name}-layouts",
            metadata={"name": LAYOUTS, "namespace": NAMESPACE, "labels": labels("gpu-operator", "cluster")},
            data={"config.yaml": parted_file(pools)},
            opts=self.child(depends_on=[operator]),
        )
        self.resources = GpuOperatorResources(operator, layouts)
        self.finish(
            {
                "kind": "Deployment",
                "namespace": NAMESPACE,
                "name": "gpu-operator",
                "probe": "ClusterPolicy is ready and every node reports mig.config.state success",
            }
        )


def values(pools: Sequence[GpuPool], preinstalled: bool, monitored: bool) -> dict[str, Any]:
    """Values of the chart. `monitored`: the cluster runs a Prometheus operator, which reads the GPUs' metrics.

    The MIG strategy holds for the whole cluster: mixed if at least one pool requires it.
    """
    cut = [pool for pool in pools if any(pool.layouts)]
    mixed = any(pool.strategy is MigStrategy.MIXED for pool in cut)
    return {
        "driver": {"enabled": not preinstalled},
        "toolkit": {"enabled": not preinstalled},
        "mig": {"strategy": (MigStrategy.MIXED if mixed else MigStrategy.SINGLE).value},
        "migManager": {
            "enabled": bool(cut),
            "config": {"name": LAYOUTS, "create": False, "default": _BUILT_IN_DISABLED},
            "env": [{"name": "WITH_REBOOT", "value": "false"}],
        },
        "devicePlugin": {"enabled": True, "env": [{"name": "FAIL_ON_INIT_ERROR", "value": "true"}]},
        "dcgmExporter": {"enabled": True, "serviceMonitor": {"enabled": monitored}},
        "nodeStatusExporter": {"enabled": True},
        "daemonsets": {"tolerations": [{"key": mig.GPU_RESOURCE, "operator": "Exists", "effect": "NoSchedule"}]},
    }


def config_name(pool: GpuPool) -> str:
    """Name of a pool's layout, the value of the node label nvidia.com/mig.config."""
    return f"pool-{pool.name}" if any(pool.layouts) else _BUILT_IN_DISABLED


def layout_name(pool: GpuPool) -> str:
    """A name that changes with the layout. The MIG manager reacts to a changed node label, not to a changed layout.

    New nodes have `config_name` as their label. `forge repartition` sets this name on running nodes, one by one.
    """
    if not any(pool.layouts):
        return _BUILT_IN_DISABLED
    return f"{config_name(pool)}-{hashlib.sha256(repr(pool.layouts).encode()).hexdigest()[:8]}"


def parted_file(pools: Sequence[GpuPool]) -> str:
    """mig-parted configuration (YAML) with the layouts of all pools."""
    layouts: dict[str, Any] = {_BUILT_IN_DISABLED: mig.parted_config(((),))}
    for pool in pools:
        if any(pool.layouts):
            layouts |= {name: mig.parted_config(pool.layouts) for name in (config_name(pool), layout_name(pool))}
    return yaml.safe_dump({"version": "v1", "mig-configs": layouts}, sort_keys=False)
