"""AWS resources under an environment: keys, network, cluster, nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.base import PART_OF, PlatformComponent
from components.cluster.aws_site import AwsSiteArgs
from components.cluster.eks_cluster import EksCluster
from components.cluster.eks_inputs import EksClusterInputs, KarpenterInputs, NetworkInputs, given
from components.cluster.encryption_key import EncryptionKey
from components.cluster.gpu_inputs import GpuNodes
from components.cluster.gpu_node_pool import GpuNodePool
from components.cluster.gpu_operator import GpuOperator
from components.cluster.karpenter import Karpenter
from components.cluster.network import Network
from components.config.eks import Autoscaler
from components.config.platform import Environment, PlatformConfig


class AwsFoundationResources(NamedTuple):
    """Resources of an environment on AWS."""

    account: aws.Provider
    """For the environment's AWS account."""
    key: EncryptionKey
    network: Network
    cluster: EksCluster
    karpenter: Karpenter | None
    gpu_operator: GpuOperator | None
    gpu_pools: tuple[GpuNodePool, ...]


class AwsFoundation(PlatformComponent):
    """Network, keys, EKS cluster, autoscaling and GPU pools of an environment."""

    provider: k8s.Provider
    """Kubernetes provider for the new cluster."""
    parts: dict[str, PlatformComponent]
    account: aws.Provider
    """AWS provider for the account."""
    site: AwsSiteArgs
    """Network for managed AWS services."""

    def __init__(
        self,
        name: str,
        config: PlatformConfig,
        opts: pulumi.ResourceOptions | None = None,
        *,
        environment: str | None = None,
    ) -> None:
        """`environment`: name of the environment. The default is its stage."""
        super().__init__("cluster", name, {}, opts)
        eks, env = config.cluster.eks, environment or config.environment.value
        assert eks is not None  # with kind: eks, the configuration requires it
        protect = config.environment in (Environment.STAGING, Environment.PROD)
        account = aws.Provider(
            f"{env}-aws",
            region=eks.region,
            # The provider refuses credentials of another account before it creates anything.
            allowed_account_ids=[eks.account_id],
            default_tags={
                "tags": {
                    "cogniforge.dev/environment": env,
                    "cogniforge.dev/owner": config.owner,
                    "cogniforge.dev/part-of": PART_OF,
                }
            },
            opts=self.child(),
        )
        on_aws = pulumi.ResourceOptions(parent=self, providers={"aws": account})
        cluster_name = f"{PART_OF}-{env}"
        key = EncryptionKey(
            f"{env}-key",
            {
                "purpose": f"secrets, volumes and logs of {cluster_name}",
                "account_id": eks.account_id,
                "services": [f"logs.{eks.region}.amazonaws.com", "autoscaling.amazonaws.com"],
            },
            on_aws,
        )
        of_network: Any = {**given(eks, NetworkInputs), "cluster_name": cluster_name, "key_arn": key.arn}
        network = Network(f"{env}-network", of_network, on_aws)
        of_cluster: Any = {
            **given(eks, EksClusterInputs),
            "cluster_name": cluster_name,
            "subnet_ids": network.private_subnet_ids,
            "key_arn": key.arn,
            "protect": protect,
        }
        cluster = EksCluster(f"{env}-eks", of_cluster, on_aws)
        self.provider, self.account = cluster.provider, account
        self.site = {
            "account_id": eks.account_id,
            "region": eks.region,
            "vpc_id": network.vpc_id,
            "network": eks.vpc_cidr,
            "subnet_ids": [*network.private_subnet_ids],
            "key_arn": key.arn,
            "cluster_name": cluster.cluster_name,
            "security_group_id": cluster.security_group_id,
        }
        if cluster.issuer:
            self.site["issuer_arn"], self.site["issuer_url"] = cluster.issuer
        self.parts = {"key": key, "network": network, "cluster": cluster}
        pools = config.cluster.gpu_pools
        both = pulumi.ResourceOptions(parent=self, providers={"aws": account, "kubernetes": cluster.provider})
        made: list[pulumi.Resource] = []
        karpenter, operator = None, None
        if eks.autoscaler is Autoscaler.KARPENTER:
            of_karpenter: Any = {
                **given(eks, KarpenterInputs),
                **_joined(cluster),
                "key_arn": key.arn,
                # The first pool is the cluster's own: Karpenter runs there.
                "node_pools": [pool.model_dump() for pool in eks.node_pools[1:]],
                "node_overlays": any(any(pool.layouts) for pool in pools),
                "issuer_arn": cluster.issuer_arn,
                "issuer_url": cluster.issuer_url,
            }
            karpenter = Karpenter(f"{env}-karpenter", of_karpenter, both)
            self.parts["karpenter"] = karpenter
            made.append(karpenter)
        if pools:
            of_operator: Any = {
                "pools": [pool.model_dump() for pool in pools],
                "monitored": config.observability.prometheus_operator,
            }
            operator = GpuOperator(f"{env}-gpu-operator", of_operator, both)
            self.parts["gpu-operator"] = operator
            made.append(operator)
        nodes: Any = {
            **given(eks, GpuNodes),
            **_joined(cluster),
            "subnet_ids": network.private_subnet_ids,
            "key_arn": key.arn,
        }
        gpu_pools = {
            f"gpu-{pool.name}": GpuNodePool(
                f"{env}-gpu-{pool.name}",
                {**pool.model_dump(), "nodes": nodes},  # pyright: ignore[reportArgumentType]
                pulumi.ResourceOptions(
                    parent=self, providers={"aws": account, "kubernetes": cluster.provider}, depends_on=made
                ),
            )
            for pool in pools
        }
        self.parts |= gpu_pools
        self.resources = AwsFoundationResources(
            account, key, network, cluster, karpenter, operator, tuple(gpu_pools.values())
        )
        self.finish(
            {"kind": "", "namespace": "", "name": cluster_name, "probe": "all its parts are healthy"},
            cluster_name=cluster.cluster_name,
        )


def _joined(cluster: EksCluster) -> dict[str, Any]:
    """What nodes need to know of the cluster that they join."""
    return {
        "cluster_name": cluster.cluster_name,
        "node_role_name": cluster.node_role_name,
        "node_role_arn": cluster.node_role_arn,
    }
