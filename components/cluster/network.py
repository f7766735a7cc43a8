"""The network of an AWS environment: a VPC with three zones, private nodes and flow logs."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

import pulumi
import pulumi_aws as aws

from components.base import PlatformComponent
from components.cluster import iam
from components.cluster.eks_inputs import NetworkArgs, NetworkInputs
from components.config.eks import Nat
from components.inputs import checked

_ANYWHERE = "0.0.0.0/0"
_GATEWAY_ENDPOINTS = ("s3",)


def subnets(cidr: str) -> tuple[list[str], list[str]]:
    """(private, public) subnets of three zones. Private ones get a quarter each; public ones share the last quarter."""
    quarters = list(ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=2))
    public = list(quarters[3].subnets(new_prefix=max(24, quarters[3].prefixlen + 2)))
    return [str(n) for n in quarters[:3]], [str(n) for n in public[:3]]


class NetworkResources(NamedTuple):
    """Resources of a network."""

    vpc: aws.ec2.Vpc
    internet_gateway: aws.ec2.InternetGateway
    private_subnets: tuple[aws.ec2.Subnet, ...]
    """One in each zone."""
    public_subnets: tuple[aws.ec2.Subnet, ...]
    """One in each zone."""
    nat_gateways: tuple[aws.ec2.NatGateway, ...]


class Network(PlatformComponent):
    """A VPC with a private and a public subnet in each of three zones."""

    vpc_id: pulumi.Output[str]
    """ID of the VPC."""
    private_subnet_ids: list[pulumi.Output[str]]
    """IDs of the private subnets, one in each zone."""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        eks = checked(NetworkInputs, self, name, args)
        super().__init__("cluster", name, {"cluster_name": eks.cluster_name, "key_arn": eks.key_arn}, opts)
        self._eks, self._cluster = eks, eks.cluster_name
        vpc = aws.ec2.Vpc(
            name, cidr_block=eks.vpc_cidr, enable_dns_hostnames=True, enable_dns_support=True, opts=self.child()
        )
        self.vpc_id = vpc.id
        # AWS creates a default security group that allows traffic between members. Without rules, it allows none.
        aws.ec2.DefaultSecurityGroup(name, vpc_id=vpc.id, opts=self.child())
        gateway = aws.ec2.InternetGateway(name, vpc_id=vpc.id, opts=self.child())
        public = self._table(f"{name}-public", gateway_id=gateway.id)
        private_cidrs, public_cidrs = subnets(eks.vpc_cidr)
        public_subnets = self._public_subnets(public_cidrs, public)
        nats = self._nats([subnet.id for subnet in public_subnets], gateway)
        private_subnets = self._private_subnets(private_cidrs, nats)
        self.private_subnet_ids = [subnet.id for subnet in private_subnets]
        self.resources = NetworkResources(vpc, gateway, tuple(private_subnets), tuple(public_subnets), tuple(nats))
        self._flow_logs(eks.key_arn)
        self.finish(
            {"kind": "", "namespace": "", "name": name, "probe": "subnets in three zones are available"},
            vpc_id=self.vpc_id,
            private_subnet_ids=self.private_subnet_ids,
        )

    def _table(self, name: str, **target: pulumi.Input[str]) -> aws.ec2.RouteTable:
        table = aws.ec2.RouteTable(name, vpc_id=self.vpc_id, opts=self.child())
        aws.ec2.Route(name, route_table_id=table.id, destination_cidr_block=_ANYWHERE, opts=self.child(), **target)
        return table

    def _subnet(self, kind: str, zone: str, cidr: str, role: str) -> aws.ec2.Subnet:
        tags = pulumi.Output.from_input(self._cluster).apply(
            lambda cluster: {
                "Name": f"{self.name}-{kind}-{zone}",
                role: "1",
                f"kubernetes.io/cluster/{cluster}": "shared",
                **({"karpenter.sh/discovery": cluster} if kind == "private" else {}),
            }
        )
        return aws.ec2.Subnet(
            f"{self.name}-{kind}-{zone}",
            vpc_id=self.vpc_id,
            cidr_block=cidr,
            availability_zone=f"{self._eks.region}{zone}",
            map_public_ip_on_launch=False,
            tags=tags,
            opts=self.child(),
        )

    def _public_subnets(self, cidrs: list[str], table: aws.ec2.RouteTable) -> list[aws.ec2.Subnet]:
        found: list[aws.ec2.Subnet] = []
        for zone, cidr in zip(self._eks.zones, cidrs, strict=True):
            subnet = self._subnet("public", zone, cidr, "kubernetes.io/role/elb")
            aws.ec2.RouteTableAssociation(
                f"{self.name}-public-{zone}", subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
            )
            found.append(subnet)
        return found

    def _nats(self, public_ids: list[pulumi.Output[str]], gateway: aws.ec2.InternetGateway) -> list[aws.ec2.NatGateway]:
        zones = self._eks.zones if self._eks.nat is Nat.PER_ZONE else self._eks.zones[:1]
        made: list[aws.ec2.NatGateway] = []
        for zone, subnet_id in zip(zones, public_ids, strict=False):
            address = aws.ec2.Eip(f"{self.name}-nat-{zone}", domain="vpc", opts=self.child(depends_on=[gateway]))
            made.append(
                aws.ec2.NatGateway(
                    f"{self.name}-{zone}", allocation_id=address.id, subnet_id=subnet_id, opts=self.child()
                )
            )
        return made

    def _private_subnets(self, cidrs: list[str], nats: list[aws.ec2.NatGateway]) -> list[aws.ec2.Subnet]:
        found: list[aws.ec2.Subnet] = []
        tables: list[pulumi.Output[str]] = []
        for index, (zone, cidr) in enumerate(zip(self._eks.zones, cidrs, strict=True)):
            table = self._table(f"{self.name}-private-{zone}", nat_gateway_id=nats[index % len(nats)].id)
            subnet = self._subnet("private", zone, cidr, "kubernetes.io/role/internal-elb")
            aws.ec2.RouteTableAssociation(
                f"{self.name}-private-{zone}", subnet_id=subnet.id, route_table_id=table.id, opts=self.child()
            )
            found.append(subnet)
            tables.append(table.id)
        for service in _GATEWAY_ENDPOINTS:  # no NAT charges for image layers
            aws.ec2.VpcEndpoint(
                f"{self.name}-{service}",
                vpc_id=self.vpc_id,
                service_name=f"com.amazonaws.{self._eks.region}.{service}",
                vpc_endpoint_type="Gateway",
                route_table_ids=tables,
                opts=self.child(),
            )
        return found

    def _flow_logs(self, key_arn: pulumi.Input[str]) -> None:
        group = aws.cloudwatch.LogGroup(
            f"{self.name}-flow",
            name=f"/cogniforge/{self.name}/flow",
            retention_in_days=nearest_retention(self._eks.log_days),
            kms_key_id=key_arn,
            opts=self.child(),
        )
        role = aws.iam.Role(
            f"{self.name}-flow",
            assume_role_policy=iam.trusted_service("vpc-flow-logs.amazonaws.com"),
            opts=self.child(),
        )
        actions = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
        aws.iam.RolePolicy(
            f"{self.name}-flow",
            role=role.name,
            policy=group.arn.apply(lambda arn: iam.document([iam.statement(actions, [arn, f"{arn}:*"])])),
            opts=self.child(),
        )
        aws.ec2.FlowLog(
            self.name,
            vpc_id=self.vpc_id,
            traffic_type="ALL",
            log_destination_type="cloud-watch-logs",
            log_destination=group.arn,
            iam_role_arn=role.arn,
            max_aggregation_interval=60,
            opts=self.child(),
        )


_RETENTIONS = (1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653)
"""Retention periods of CloudWatch Logs, in days. Source: its API reference, PutRetentionPolicy."""


def nearest_retention(days: int) -> int:
    """The shortest retention period of CloudWatch Logs with at least `days` days."""
    return next(accepted for accepted in _RETENTIONS if accepted >= days)
