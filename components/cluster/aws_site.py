"""Where on AWS an environment is: what parts need that AWS runs beside the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s

from components.base import PART_OF, labels
from components.cluster.eks_cluster import EksCluster

_IDENTITY_AGENT = "169.254.170.23/32"
"""Where pods get their AWS role's credentials. Source: Amazon EKS user guide, "EKS Pod Identity"."""
ANYWHERE = "0.0.0.0/0"


@dataclass(frozen=True)
class AwsSite:
    """Account, network, key and cluster."""

    provider: aws.Provider
    account_id: str
    region: str
    vpc_id: pulumi.Output[str]
    network: str
    """The VPC's addresses."""
    subnet_ids: list[pulumi.Output[str]]
    """Private subnets, one in each of three zones."""
    key_arn: pulumi.Output[str]
    """KMS key for what is stored."""
    cluster: EksCluster
    """Its pods reach what the cluster's security group may reach."""

    def entrance(self, name: str, port: int, purpose: str, opts: pulumi.ResourceOptions) -> aws.ec2.SecurityGroup:
        """A security group that lets the cluster's pods reach one port, and nobody else anything."""
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
    """Let pods of these names out to (network, port) of AWS; the namespace lets nobody out by itself.

    `policy` is the namespace and the name of the network policy.
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
