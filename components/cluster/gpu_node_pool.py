"""A pool of GPU nodes. Its definition includes the MIG layout of its GPUs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.base import PlatformComponent, labels
from components.cluster import karpenter, mig
from components.cluster.eks_cluster import launch_template
from components.cluster.gpu_inputs import GpuNodePoolArgs, GpuNodePoolInputs, GpuNodes
from components.cluster.gpu_operator import config_name
from components.config.eks import Autoscaler, Capacity
from components.config.gpu import GpuPool, NodeOs
from components.inputs import checked

DRIVER = "gpu.nvidia.com"
"""DRA driver of NVIDIA's GPUs. Its device classes are DRIVER and mig.nvidia.com."""
_DISK_GIB = 500
_IMAGES = {NodeOs.AL2023: "AL2023_x86_64_NVIDIA", NodeOs.BOTTLEROCKET: "BOTTLEROCKET_x86_64_NVIDIA"}
_ALIASES = {NodeOs.AL2023: "al2023@latest", NodeOs.BOTTLEROCKET: "bottlerocket@latest"}


class GpuNodePoolResources(NamedTuple):
    """Resources of a pool."""

    node_pool: k8s.apiextensions.CustomResource | None
    """Karpenter's NodePool."""
    node_group: aws.eks.NodeGroup | None
    """Without Karpenter, on EKS."""
    device_classes: tuple[k8s.resource.v1.DeviceClass, ...]
    """One for each kind of slice."""
    quotas: tuple[k8s.core.v1.ResourceQuota, ...]
    """One for each tenant."""


class GpuNodePool(PlatformComponent):
    """Nodes, labels, taint, device classes and tenants' quotas of one pool."""

    per_node: dict[str, int]
    """Number of GPUs or slices per node, by extended resource name."""
    slice_usd: dict[str, str]
    """Price of one slice in USD per hour, by extended resource name; empty if no price is known."""

    def __init__(self, name: str, args: GpuNodePoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        pool = checked(GpuNodePoolInputs, self, name, args)
        super().__init__("cluster", name, {"gpu": pool.gpu.value, "layouts": pool.mig}, opts)
        self._pool = pool
        self.per_node = pool.resources
        self.slice_usd = {resource: str(usd) for resource, usd in pool.slice_usd().items()}
        nodes, group = None, None
        if pool.nodes is not None:
            if pool.nodes.autoscaler is Autoscaler.KARPENTER:
                nodes = self._karpenter_pool(pool.nodes)
            else:
                group = self._managed_group(pool.nodes)
        self.resources = GpuNodePoolResources(nodes, group, self._device_classes(), self._quotas())
        if self.slice_usd and pulumi.runtime.is_dry_run():
            prices = ", ".join(f"{resource} {usd}" for resource, usd in self.slice_usd.items())
            pulumi.log.info(f"GPU pool {pool.name}: USD per hour for each slice: {prices}", self)
        self.finish(
            {
                "kind": "",
                "namespace": "",
                "name": pool.name,
                "probe": f"its nodes carry nvidia.com/mig.config.state=success and offer {self.per_node}",
            },
            resources=self.per_node,
            slice_usd=self.slice_usd,
        )

    def _karpenter_pool(self, cluster: GpuNodes) -> k8s.apiextensions.CustomResource:
        pool = self._pool
        node_class = k8s.apiextensions.CustomResource(
            f"{self.name}-class",
            api_version=karpenter.CLASS_API_VERSION,
            kind="EC2NodeClass",
            metadata={"name": pool.name},
            spec=karpenter.node_class_spec(cluster.cluster_name, cluster.node_role_name, _DISK_GIB, _ALIASES[pool.os]),
            opts=self.child(),
        )
        nodes = k8s.apiextensions.CustomResource(
            self.name,
            api_version=karpenter.API_VERSION,
            kind="NodePool",
            metadata={"name": pool.name},
            spec=karpenter.node_pool_spec(
                pool.name,
                [pool.instance_type],
                pool.capacity.value,
                {"nodes": str(pool.max_nodes), mig.GPU_RESOURCE: str(pool.max_nodes * pool.gpus)},
                node_labels(self._pool),
                [{"key": mig.GPU_RESOURCE, "value": "present", "effect": "NoSchedule"}],
                consolidate="WhenEmpty",
            ),
            opts=self.child(depends_on=[node_class]),
        )
        if any(pool.layouts):
            k8s.apiextensions.CustomResource(
                f"{self.name}-overlay",
                api_version="karpenter.sh/v1alpha1",
                kind="NodeOverlay",
                metadata={"name": pool.name},
                spec=overlay_spec(pool),
                opts=self.child(),
            )
        return nodes

    def _managed_group(self, cluster: GpuNodes) -> aws.eks.NodeGroup:
        pool = self._pool
        template = launch_template(self.name, _DISK_GIB, cluster.key_arn, self.child())
        return aws.eks.NodeGroup(
            self.name,
            cluster_name=cluster.cluster_name,
            node_role_arn=cluster.node_role_arn,
            subnet_ids=cluster.subnet_ids,
            version=cluster.version,
            ami_type=_IMAGES[pool.os],
            capacity_type="SPOT" if pool.capacity is Capacity.SPOT else "ON_DEMAND",
            instance_types=[pool.instance_type],
            scaling_config={
                "min_size": pool.min_nodes,
                "max_size": pool.max_nodes,
                "desired_size": pool.min_nodes,
            },
            update_config={"max_unavailable": 1},
            launch_template={"id": template.id, "version": template.latest_version.apply(str)},
            labels={"cogniforge.dev/pool": pool.name, **node_labels(self._pool)},
            taints=[{"key": mig.GPU_RESOURCE, "value": "present", "effect": "NO_SCHEDULE"}],
            opts=self.child(ignore_changes=["scalingConfig.desiredSize"]),
        )

    def _device_classes(self) -> tuple[k8s.resource.v1.DeviceClass, ...]:
        """A DRA device class per MIG profile in the pool, so that claims can request a profile by name."""
        profiles = sorted({name for layout in self._pool.layouts for name, _ in layout})
        return tuple(self._device_class(profile) for profile in profiles)

    def _device_class(self, profile: str) -> k8s.resource.v1.DeviceClass:
        suffix = profile.replace(".", "-").replace("+", "-")
        return k8s.resource.v1.DeviceClass(
            f"{self.name}-{suffix}",
            metadata={"name": f"{self._pool.name}-mig-{suffix}", "labels": labels("gpu-node-pool", "cluster")},
            spec={"selectors": [{"cel": {"expression": device_expression(profile)}}]},
            opts=self.child(),
        )

    def _quotas(self) -> tuple[k8s.core.v1.ResourceQuota, ...]:
        made: list[k8s.core.v1.ResourceQuota] = []
        for tenant in self._pool.tenants:
            hard: dict[str, str] = dict.fromkeys((f"requests.{r}" for r in self.per_node), "0")
            hard.update({f"requests.{r}": str(n) for r, n in self._pool.tenant_resources(tenant).items()})
            space = k8s.core.v1.Namespace(
                f"{self.name}-{tenant.namespace}",
                metadata={
                    "name": tenant.namespace,
                    "labels": {
                        **labels("tenant", "cluster"),
                        "pod-security.kubernetes.io/enforce": "restricted",
                    },
                },
                opts=self.child(),
            )
            quota = k8s.core.v1.ResourceQuota(
                f"{self.name}-{tenant.namespace}",
                metadata={
                    "name": f"gpu-{self._pool.name}",
                    "namespace": space.metadata["name"],
                    "labels": labels("tenant", "cluster"),
                },
                spec={"hard": hard},
                opts=self.child(),
            )
            made.append(quota)
        return tuple(made)


def node_labels(pool: GpuPool) -> dict[str, str]:
    """Labels of a pool's nodes. The MIG manager applies the layout that nvidia.com/mig.config names."""
    return {
        "cogniforge.dev/gpu-pool": pool.name,
        "nvidia.com/mig.config": config_name(pool),
        "nvidia.com/gpu.deploy.mig-manager": "true",
    }


def overlay_spec(pool: GpuPool) -> dict[str, Any]:
    """Spec of a NodeOverlay, which tells Karpenter the slices of a node that does not exist yet."""
    capacity = {name: str(count) for name, count in pool.resources.items() if name != mig.GPU_RESOURCE}
    return {
        "requirements": [
            {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": [pool.instance_type]},
            {"key": "cogniforge.dev/gpu-pool", "operator": "In", "values": [pool.name]},
        ],
        "weight": 10,
        **({"capacity": capacity} if capacity else {}),
        **({"price": str(pool.node_usd)} if pool.hourly_usd is not None else {}),
    }


def device_expression(profile: str) -> str:
    """CEL expression that selects MIG devices of a profile."""
    return (
        f'device.driver == "{DRIVER}" && device.attributes["{DRIVER}"].type == "mig" && '
        f'device.attributes["{DRIVER}"].profile == "{profile}"'
    )
