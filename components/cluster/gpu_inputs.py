"""Inputs of GPU pools, and of nodes on EKS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.cluster.gpu_models import GpuModel
from components.cluster.mig import MigStrategy
from components.config.base import DnsLabel
from components.config.eks import Autoscaler, Capacity, Eks
from components.config.gpu import GpuPool, NodeOs
from components.config.problems import violation
from components.inputs import Inputs, Text, same_as


class TenantArgs(TypedDict):
    """A tenant's quota of a pool."""

    namespace: str
    """Namespace of the tenant. The pool makes it."""
    slices: Mapping[str, int]
    """Number of slices by MIG profile, such as {"1g.10gb": 4}; "gpu" for whole GPUs."""


class GpuPoolArgs(TypedDict):
    """A pool of nodes with the same GPU model and MIG layout."""

    name: str
    """Name of the pool: its nodes have the label cogniforge.dev/gpu-pool with this value."""
    gpu: GpuModel
    """GPU model, such as "h100-80": the name, and the memory in GB."""
    instance_type: NotRequired[str]
    """EC2 instance type, such as "p5.48xlarge". Required with `nodes`."""
    gpus_per_node: NotRequired[int]
    """GPUs per node. Default: those of the instance type."""
    mig: NotRequired[Any]
    """MIG layout: a name such as "all-1g.10gb" or "all-balanced", counts such as {"3g.40gb": 2}, or a list with one
    entry per GPU. Default "all-disabled"."""
    strategy: NotRequired[MigStrategy]
    """Resource name of slices. single: nvidia.com/gpu; mixed: one per profile. Default "mixed"."""
    os: NotRequired[NodeOs]
    """Operating system of the nodes. Default "al2023"."""
    capacity: NotRequired[Capacity]
    """Purchase option. Default "on-demand"."""
    min_nodes: NotRequired[int]
    """Minimum number of nodes. Default 0."""
    max_nodes: NotRequired[int]
    """Maximum number of nodes. Default 1."""
    hourly_usd: NotRequired[float]
    """Price of a node in USD per hour. Default: the list price of the instance type in us-east-1."""
    tenants: NotRequired[Sequence[TenantArgs]]
    """Quotas of tenants in the pool."""


class GpuNodesArgs(TypedDict):
    """The EKS cluster in which the nodes of a pool are made. `EksCluster` gives these values."""

    cluster_name: pulumi.Input[str]
    """Name of the cluster that the nodes join."""
    node_role_name: pulumi.Input[str]
    """Name of the nodes' IAM role."""
    node_role_arn: pulumi.Input[str]
    """ARN of the nodes' IAM role."""
    subnet_ids: Sequence[pulumi.Input[str]]
    """IDs of private subnets."""
    key_arn: pulumi.Input[str]
    """ARN of the KMS key for the nodes' disks."""
    version: NotRequired[str]
    """Kubernetes version of the cluster. Default: the newest that is supported."""
    autoscaler: NotRequired[Autoscaler]
    """What adds and removes nodes. Default "karpenter"."""


class GpuNodePoolArgs(GpuPoolArgs):
    """Inputs of a pool."""

    nodes: NotRequired[GpuNodesArgs]
    """Where nodes are made. Without it, the nodes exist already and have the label cogniforge.dev/gpu-pool."""


class GpuNodes(Inputs):
    """The EKS cluster in which the nodes of a pool are made."""

    cluster_name: Text = Field(description="Name of the cluster that the nodes join")
    node_role_name: Text = Field(description="Name of the nodes' IAM role")
    node_role_arn: Text = Field(description="ARN of the nodes' IAM role")
    subnet_ids: list[Text] = Field(min_length=1, description="IDs of private subnets")
    key_arn: Text = Field(description="ARN of the KMS key for the nodes' disks")
    version: str = same_as(Eks, "version")
    autoscaler: Autoscaler = same_as(Eks, "autoscaler")


class GpuNodePoolInputs(Inputs, GpuPool):
    """What `GpuNodePoolArgs` may hold."""

    nodes: GpuNodes | None = Field(default=None, description="Where nodes are made")

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        if self.nodes is not None and self.instance is None:
            raise violation("with nodes, instance_type is required", "add instance_type, or remove nodes")
        return self


class GpuOperatorArgs(TypedDict):
    """Inputs of the GPU operator."""

    pools: Sequence[GpuPoolArgs]
    """Pools whose MIG layouts the operator applies."""
    preinstalled: NotRequired[bool]
    """Whether the nodes' image has driver and container toolkit, as EKS's accelerated images do. Default true."""
    monitored: NotRequired[bool]
    """Whether a Prometheus operator reads the GPUs' metrics. Default false."""


class GpuOperatorInputs(Inputs):
    """What `GpuOperatorArgs` may hold."""

    pools: list[GpuPool] = Field(description="Pools whose MIG layouts the operator applies")
    preinstalled: bool = Field(default=True, description="Whether the nodes' image has driver and container toolkit")
    monitored: bool = Field(default=False, description="Whether a Prometheus operator reads the GPUs' metrics")


class PoolOfModelArgs(TypedDict):
    """The pool that a model runs in."""

    name: str
    """Name of the pool."""
    strategy: NotRequired[MigStrategy]
    """Resource name of slices in the pool. Default "mixed"."""


class PoolOfModel(Inputs):
    """The pool that a model runs in."""

    name: DnsLabel = Field(description="Name of the pool")
    strategy: MigStrategy = same_as(GpuPool, "strategy")
