"""An environment's place on AWS, for parts that use managed services."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_aws as aws
import pulumi_kubernetes as k8s
from pydantic import Field

from components.base import PART_OF, labels
from components.config.eks import AccountId, AnyCidr, Region
from components.inputs import Inputs, Text

_IDENTITY_AGENT = "169.254.170.23/32"
"""Address from which pods get credentials of their AWS role. Source: Amazon EKS user guide, "EKS Pod Identity"."""
ANYWHERE = "0.0.0.0/0"


class AwsSiteArgs(TypedDict):
    """Account, network, key and EKS cluster beside which AWS runs a managed service."""

    account_id: str
    """AWS account, 12 digits."""
    region: str
    """AWS region, such as "eu-central-1"."""
    vpc_id: pulumi.Input[str]
    """Network of the cluster."""
    network: str
    """The VPC's addresses, such as "10.0.0.0/16"."""
    subnet_ids: list[pulumi.Input[str]]
    """IDs of private subnets, one in each of three zones."""
    key_arn: pulumi.Input[str]
    """KMS key for stored data."""
    cluster_name: pulumi.Input[str]
    """EKS cluster whose pods use the service."""
    security_group_id: pulumi.Input[str]
    """The cluster's security group; its members may reach the service."""
    issuer_arn: NotRequired[pulumi.Input[str]]
    """OIDC provider in IAM, for clusters with IRSA; without one pods use Pod Identity."""
    issuer_url: NotRequired[pulumi.Input[str]]
    """URL of the same."""


class AwsSite(Inputs):
    """Where on AWS a managed service is made."""

    account_id: AccountId = Field(description="AWS account, 12 digits")
    region: Region = Field(description='AWS region, such as "eu-central-1"')
    vpc_id: Text = Field(description="Network of the cluster")
    network: AnyCidr = Field(description='The VPC\'s addresses, such as "10.0.0.0/16"')
    subnet_ids: list[Text] = Field(min_length=1, description="Private subnets, one in each of three zones")
    key_arn: Text = Field(description="KMS key for stored data")
    cluster_name: Text = Field(description="EKS cluster whose pods use the service")
    security_group_id: Text = Field(description="The cluster's security group; its members may reach the service")
    issuer_arn: Text | None = Field(default=None, description="OIDC provider in IAM, for clusters with IRSA")
    issuer_url: Text | None = Field(default=None, description="URL of the OIDC provider")

    @property
    def issuer(self) -> tuple[pulumi.Output[str], pulumi.Output[str]] | None:
        """(ARN, URL) of the OIDC provider with IRSA."""
        if self.issuer_arn is None or self.issuer_url is None:
            return None
        return pulumi.Output.from_input(self.issuer_arn), pulumi.Output.from_input(self.issuer_url)

    def entrance(self, name: str, port: int, purpose: str, opts: pulumi.ResourceOptions) -> aws.ec2.SecurityGroup:
        """A security group that admits the cluster's pods to one port, and no other traffic."""
        group = aws.ec2.SecurityGroup(name, description=purpose, vpc_id=self.vpc_id, opts=opts)
        aws.vpc.SecurityGroupIngressRule(
            name,
            security_group_id=group.id,
            referenced_security_group_id=self.security_group_id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            description="pods of the cluster",
            opts=opts,
        )
        return group


def _block(cidr: str) -> Any:
    """IP block of a network; "anywhere" leaves out link-local addresses, such as that of instance metadata."""
    return {"cidr": cidr, **({"except_": ["169.254.0.0/16"]} if cidr == ANYWHERE else {})}


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
        "egress": [{"to": [{"ip_block": _block(cidr)}], "ports": [{"port": port}]} for cidr, port in to],
    }
    k8s.networking.v1.NetworkPolicy(
        resource,
        metadata={"name": policy[1], "namespace": policy[0], "labels": labels(policy[1], "data")},
        spec=spec,
        opts=opts,
    )
