"""An environment's place on AWS, for parts that use managed services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.base import PART_OF, labels
from components.cluster.eks_cluster import EksCluster

_IDENTITY_AGENT = "169.254.170.23/32"
"""Address from which pods get credentials of their AWS role. Source: Amazon EKS user guide, "EKS Pod Identity"."""
ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class AwsSite:
    """Account, network, encryption key and cluster of an environment."""

    provider: aws.Provider
    account_id: str
    region: str
    vpc_id: pulumi.Output[str]
    network: str
    """IPv4 network (CIDR) of the VPC."""
    subnet_ids: list[pulumi.Output[str]]
    """IDs of private subnets, one in each of three zones."""
    key_arn: pulumi.Output[str]
    """ARN of the KMS key for stored data."""
    cluster: EksCluster
    """ID of the cluster's security group, which all pods are in."""

    def entrance(self, name: str, port: int, purpose: str, opts: pulumi.ResourceOptions) -> aws.ec2.SecurityGroup:
        """A security group that admits the cluster's pods to one port, and no other traffic."""
        group = aws.ec2.SecurityGroup(name, description=purpose, vpc_id=self.vpc_id, opts=opts)
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=group.id,
            referenced_security_group_id=self.cluster.security_group_id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description="pods of the cluster",
            opts=opts,
        )
        return group


def outlet(
    resource: str,
    policy: tuple[pulumi.Input[str], str],
    pods: tuple[str, ...],
    target: tuple[str, int],
    opts: pulumi.ResourceOptions,
) -> None:
    """Allow pods of these names to connect to (network, port) of AWS. The namespace denies egress by default.

    `policy`: namespace and name of the NetworkPolicy.
    """
    to: list[tuple[str, int]] = [target] if target[0] != ANYWHERE else [target, (_IDENTITY_AGENT, 80)]
    chosen: Any = {"key": "app.kubernetes.io/name", "operator": "In", "values": sorted(set(pods))}
    spec: Any = {
        "pod_selector": {"match_labels": {"app.kubernetes.io/part-of": PART_OF}, "match_expressions": [chosen]},
        "policy_types": ["Egress"],
        "egress": [{"to": [{"ip_block": {"cidr": cidr}}], "ports": [{"port": port}]} for cidr, port in to],
    }
    k8s.networking.v1.NetworkPolicy(
        resource,
        metadata={"name": policy[1], "namespace": policy[0], "labels": labels(policy[1], "data")},
        spec=spec,
        opts=opts,
    )
