"""Inputs of an EKS cluster, of its network and of Karpenter. Each limit is that of the stack file's section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, Self, TypedDict

import pulumi
from pydantic import Field, model_validator

from components.config.eks import (
    AnyCidr,
    Autoscaler,
    Capacity,
    Eks,
    Nat,
    NodePool,
    Principal,
    WorkloadIdentity,
    Zone,
    pools_that_run,
)
from components.inputs import Inputs, Text, same_as


class NetworkArgs(TypedDict):
    """Inputs of a network."""

    cluster_name: pulumi.Input[str]
    """Name of the cluster whose load balancers and nodes use the subnets."""
    key_arn: pulumi.Input[str]
    """ARN of the KMS key for the flow logs."""
    region: str
    """AWS region, such as "eu-central-1"."""
    vpc_cidr: NotRequired[str]
    """Private IPv4 network of the VPC, /16 to /20. Default "10.20.0.0/16"."""
    zones: NotRequired[Sequence[str]]
    """Letters of three availability zones. Default a, b and c."""
    nat: NotRequired[Nat]
    """NAT gateways. Default "per-zone"."""
    log_days: NotRequired[int]
    """Days that flow logs are kept. Default 90."""


class NetworkInputs(Inputs):
    """What `NetworkArgs` may hold."""

    cluster_name: Text = Field(description="Name of the cluster whose load balancers and nodes use the subnets")
    key_arn: Text = Field(description="ARN of the KMS key for the flow logs")
    region: str = same_as(Eks, "region")
    vpc_cidr: str = same_as(Eks, "vpc_cidr")
    zones: tuple[Zone, ...] = same_as(Eks, "zones")
    nat: Nat = same_as(Eks, "nat")
    log_days: int = same_as(Eks, "log_days")


class NodePoolArgs(TypedDict):
    """A pool of nodes without GPUs."""

    name: str
    """Name of the pool."""
    instance_types: Sequence[str]
    """EC2 instance types, preferred ones first."""
    capacity: NotRequired[Capacity]
    """Purchase option. Default "on-demand"."""
    min_nodes: NotRequired[int]
    """Minimum number of nodes. Default 2."""
    max_nodes: NotRequired[int]
    """Maximum number of nodes. Default 10."""
    disk_gib: NotRequired[int]
    """Size of the root volume in GiB. Default 100."""


class EksClusterArgs(TypedDict):
    """Inputs of a cluster."""

    cluster_name: str
    """Name of the cluster in AWS."""
    subnet_ids: Sequence[pulumi.Input[str]]
    """IDs of private subnets in three zones, such as `Network.private_subnet_ids`."""
    key_arn: pulumi.Input[str]
    """ARN of the KMS key for secrets, logs and volumes."""
    protect: NotRequired[bool]
    """Whether AWS and Pulumi refuse to delete the cluster. Default true."""
    region: str
    """AWS region, such as "eu-central-1"."""
    version: NotRequired[str]
    """Kubernetes version. Upgrades go one minor version at a time. Default: the newest that is supported."""
    service_cidr: NotRequired[str]
    """Private IPv4 network of Kubernetes Services, /12 to /24. Default "172.20.0.0/16"."""
    public_api_cidrs: NotRequired[Sequence[str]]
    """Networks that may reach the Kubernetes API from the internet. Default: none."""
    admins: Sequence[str]
    """ARNs of IAM roles and users with administrator rights on the cluster."""
    viewers: NotRequired[Sequence[str]]
    """ARNs of IAM roles and users with read access to the cluster. Default: none."""
    identity: NotRequired[WorkloadIdentity]
    """How pods get AWS permissions. Default "pod-identity"."""
    autoscaler: NotRequired[Autoscaler]
    """What adds and removes nodes. With "karpenter", only the first on-demand pool is made here. Default
    "karpenter"."""
    node_pools: Sequence[NodePoolArgs]
    """Pools of nodes without GPUs. At least one is on-demand."""
    log_days: NotRequired[int]
    """Days that control plane logs are kept. Default 90."""


class EksClusterInputs(Inputs):
    """What `EksClusterArgs` may hold."""

    cluster_name: str = Field(min_length=1, max_length=100, description="Name of the cluster in AWS")
    subnet_ids: list[Text] = Field(min_length=1, description="IDs of private subnets in three zones")
    key_arn: Text = Field(description="ARN of the KMS key for secrets, logs and volumes")
    protect: bool = Field(default=True, description="Whether AWS and Pulumi refuse to delete the cluster")
    region: str = same_as(Eks, "region")
    version: str = same_as(Eks, "version")
    service_cidr: str = same_as(Eks, "service_cidr")
    public_api_cidrs: tuple[AnyCidr, ...] = same_as(Eks, "public_api_cidrs")
    admins: tuple[Principal, ...] = same_as(Eks, "admins")
    viewers: tuple[Principal, ...] = same_as(Eks, "viewers")
    identity: WorkloadIdentity = same_as(Eks, "identity")
    autoscaler: Autoscaler = same_as(Eks, "autoscaler")
    node_pools: tuple[NodePool, ...] = same_as(Eks, "node_pools")
    log_days: int = same_as(Eks, "log_days")

    @model_validator(mode="after")
    def _pools(self) -> Self:
        pools_that_run(self.node_pools)
        return self


class KarpenterArgs(TypedDict):
    """Inputs of Karpenter. `EksCluster` gives the values of the cluster."""

    cluster_name: pulumi.Input[str]
    """Name of the cluster."""
    node_role_name: pulumi.Input[str]
    """Name of the nodes' IAM role."""
    node_role_arn: pulumi.Input[str]
    """ARN of the nodes' IAM role."""
    issuer_arn: NotRequired[pulumi.Input[str]]
    """OIDC provider in IAM, for clusters with IRSA. Without one, the controller uses Pod Identity."""
    issuer_url: NotRequired[pulumi.Input[str]]
    """URL of the OIDC provider."""
    region: str
    """AWS region, such as "eu-central-1"."""
    account_id: str
    """AWS account, 12 digits."""
    key_arn: pulumi.Input[str]
    """ARN of the KMS key for the nodes' disks."""
    node_pools: NotRequired[Sequence[NodePoolArgs]]
    """Pools that Karpenter fills. The pool that Karpenter itself runs on is not among them. Default: none."""
    node_overlays: NotRequired[bool]
    """Whether NodeOverlays are used, which declare MIG slices of future nodes. Default false."""


class KarpenterInputs(Inputs):
    """What `KarpenterArgs` may hold."""

    cluster_name: Text = Field(description="Name of the cluster")
    node_role_name: Text = Field(description="Name of the nodes' IAM role")
    node_role_arn: Text = Field(description="ARN of the nodes' IAM role")
    issuer_arn: Text | None = Field(default=None, description="OIDC provider in IAM, for clusters with IRSA")
    issuer_url: Text | None = Field(default=None, description="URL of the OIDC provider")
    region: str = same_as(Eks, "region")
    account_id: str = same_as(Eks, "account_id")
    key_arn: Text = Field(description="ARN of the KMS key for the nodes' disks")
    node_pools: list[NodePool] = Field(default_factory=list[NodePool], description="Pools that Karpenter fills")
    node_overlays: bool = Field(default=False, description="Whether NodeOverlays are used")

    @property
    def issuer(self) -> tuple[pulumi.Output[str], pulumi.Output[str]] | None:
        """(ARN, URL) of the OIDC provider with IRSA."""
        if self.issuer_arn is None or self.issuer_url is None:
            return None
        return pulumi.Output.from_input(self.issuer_arn), pulumi.Output.from_input(self.issuer_url)


def given(section: Eks, model: type[Inputs]) -> Mapping[str, Any]:
    """Those fields of the stack file's section that a model has, too."""
    return section.model_dump(include={*model.model_fields})
