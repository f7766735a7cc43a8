"""The AWS section of the configuration: network, control plane, node pools."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from itertools import combinations
from typing import Annotated, Self

from pydantic import AfterValidator, model_validator

from components.config.base import Change, DnsLabel, Section, first_duplicate, matching, setting
from components.config.problems import violation

SUPPORTED_VERSIONS = ("1.32", "1.33", "1.34")
"""Kubernetes versions in EKS standard support that the platform is tested with, oldest first."""


class WorkloadIdentity(StrEnum):
    """Mechanism that gives pods AWS permissions."""

    POD_IDENTITY = "pod-identity"
    """EKS Pod Identity: an agent on each node hands out credentials; no OIDC provider is needed."""
    IRSA = "irsa"
    """IAM roles for service accounts: AWS trusts tokens of the cluster's OIDC issuer."""


class Autoscaler(StrEnum):
    """Controller that adds and removes nodes."""

    KARPENTER = "karpenter"
    """Karpenter chooses instances for pending pods. One small managed node group runs Karpenter itself."""
    MANAGED = "managed"
    """EKS managed node groups, scaled between minNodes and maxNodes."""


class Capacity(StrEnum):
    """Purchase option of EC2 instances."""

    ON_DEMAND = "on-demand"
    SPOT = "spot"
    """Cheaper. AWS may reclaim the instance with two minutes' notice."""


class Nat(StrEnum):
    """How private subnets reach the internet."""

    PER_ZONE = "per-zone"
    """One NAT gateway per zone: no zone depends on another."""
    SINGLE = "single"
    """One NAT gateway: cheaper, and a single point of failure."""


def _network(low: int, high: int) -> AfterValidator:
    def check(text: str) -> str:
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError:
            raise violation("an IPv4 network without host bits", 'write it like "10.20.0.0/16"') from None
        if not low <= network.prefixlen <= high:
            raise violation(f"a prefix of /{low} to /{high}", f'choose one, such as "{network.network_address}/{low}"')
        return text

    return AfterValidator(check)


def _private(text: str) -> str:
    if not ipaddress.IPv4Network(text).is_private and not text.startswith("100."):
        raise violation("a private network (RFC 1918 or 100.64.0.0/10)", 'use one such as "10.20.0.0/16"')
    return text


VpcCidr = Annotated[str, _network(16, 20), AfterValidator(_private)]
ServiceCidr = Annotated[str, _network(12, 24), AfterValidator(_private)]
_PUBLIC_ADDRESSES = 2**16
AnyCidr = Annotated[str, _network(0, 32)]
_Arn = matching(r"arn:aws[a-z-]*:iam::\d{12}:(role|user)/.+", "the ARN of an IAM role or user", "copy it from IAM")
Principal = Annotated[str, _Arn]
Region = Annotated[str, matching(r"[a-z]{2}(-[a-z]+)+-\d", "an AWS region", 'write it like "eu-central-1"')]
Zone = Annotated[str, matching("[a-f]", "a zone letter, a to f", "use [a, b, c]")]
AccountId = Annotated[str, matching(r"\d{12}", "twelve digits in quotes", "copy it from the AWS console")]


class NodePool(Section):
    """A pool of nodes without GPUs."""

    name: DnsLabel = setting(Change.IMMUTABLE, "Name of the pool")
    instance_types: tuple[
        Annotated[str, matching(r"[a-z][a-z0-9-]*\.[a-z0-9]+", "an EC2 instance type", 'write it like "m7i.xlarge"')],
        ...,
    ] = setting(
        Change.DISRUPTIVE, "EC2 instance types, preferred ones first", min_length=1, max_length=20, strict=False
    )
    capacity: Capacity = setting(
        Change.DISRUPTIVE, "Purchase option: on-demand or spot", default=Capacity.ON_DEMAND, strict=False
    )
    min_nodes: int = setting(Change.SAFE, "Minimum number of nodes", default=2, ge=0, le=1000)
    max_nodes: int = setting(Change.SAFE, "Maximum number of nodes", default=10, ge=1, le=1000)
    disk_gib: int = setting(Change.DISRUPTIVE, "Size of the root volume in GiB", default=100, ge=20, le=16384)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_nodes > self.max_nodes:
            raise violation("minNodes must not exceed maxNodes", f"lower minNodes to {self.max_nodes} or less")
        return self


def pools_that_run(pools: tuple[NodePool, ...]) -> None:
    """Raise where pools have one name, or no pool is there for controllers."""
    if duplicate := first_duplicate(tuple(pool.name for pool in pools)):
        raise violation(f'nodePools must be unique; "{duplicate}" occurs twice', "remove one")
    if not any(pool.capacity is Capacity.ON_DEMAND for pool in pools):
        raise violation("at least one of nodePools must be on-demand: controllers run there", "add one")


class Eks(Section):
    """An Amazon EKS cluster in its own VPC."""

    region: Region = setting(Change.IMMUTABLE, "AWS region")
    account_id: AccountId = setting(Change.IMMUTABLE, "AWS account ID; credentials of another account are refused")
    version: Annotated[
        str,
        matching("|".join(SUPPORTED_VERSIONS), f"one of {', '.join(SUPPORTED_VERSIONS)}", "choose one, in quotes"),
    ] = setting(Change.DISRUPTIVE, "Kubernetes version; upgrades go one minor version at a time", default="1.34")
    vpc_cidr: VpcCidr = setting(Change.IMMUTABLE, "IPv4 network of the VPC: nodes and pods", default="10.20.0.0/16")
    service_cidr: ServiceCidr = setting(
        Change.IMMUTABLE, "IPv4 network of Kubernetes Services", default="172.20.0.0/16"
    )
    peered_cidrs: tuple[AnyCidr, ...] = setting(
        Change.SAFE,
        "Networks that will be peered with the VPC; they must not overlap with it",
        default=(),
        strict=False,
    )
    zones: tuple[Zone, ...] = setting(
        Change.IMMUTABLE,
        "Letters of three availability zones",
        default=("a", "b", "c"),
        min_length=3,
        max_length=3,
        strict=False,
    )
    nat: Nat = setting(Change.DISRUPTIVE, "NAT gateways: per-zone or single", default=Nat.PER_ZONE, strict=False)
    public_api_cidrs: tuple[AnyCidr, ...] = setting(
        Change.SAFE,
        "Networks that may reach the Kubernetes API from the internet; empty makes the API private",
        default=(),
        strict=False,
    )
    admins: tuple[Principal, ...] = setting(
        Change.SAFE,
        "IAM principals with administrator rights on the cluster",
        min_length=1,
        max_length=20,
        strict=False,
    )
    viewers: tuple[Principal, ...] = setting(
        Change.SAFE, "IAM principals with read access to the cluster", default=(), strict=False
    )
    identity: WorkloadIdentity = setting(
        Change.DISRUPTIVE,
        "AWS permissions of pods: pod-identity or irsa",
        default=WorkloadIdentity.POD_IDENTITY,
        strict=False,
    )
    autoscaler: Autoscaler = setting(
        Change.DISRUPTIVE, "Node autoscaler: karpenter or managed", default=Autoscaler.KARPENTER, strict=False
    )
    node_pools: tuple[NodePool, ...] = setting(
        Change.DISRUPTIVE, "Pools of nodes without GPUs", min_length=1, max_length=10, strict=False
    )
    log_days: int = setting(
        Change.SAFE, "Days that control plane logs and flow logs are kept", default=90, ge=1, le=3653
    )
    gpu_vcpu_quota: int | None = setting(
        Change.SAFE,
        "The account's quota of vCPUs for P and G instances; gpuPools must stay within it",
        default=None,
        ge=0,
    )

    @model_validator(mode="after")
    def _networks_apart(self) -> Self:
        named = [("vpcCidr", self.vpc_cidr), ("serviceCidr", self.service_cidr)]
        named += [(f"peeredCidrs[{i}]", c) for i, c in enumerate(self.peered_cidrs)]
        for (one, a), (two, b) in combinations(named, 2):
            if one.startswith("peered"):
                continue
            if ipaddress.IPv4Network(a).overlaps(ipaddress.IPv4Network(b)):
                raise violation(f"{one} {a} and {two} {b} must not overlap", f"move {one} to a free network")
        # Several networks together can cover the whole internet, such as 0.0.0.0/1 and 128.0.0.0/1.
        if sum(ipaddress.IPv4Network(c).num_addresses for c in self.public_api_cidrs) > _PUBLIC_ADDRESSES:
            raise violation(
                f"publicApiCidrs must hold at most {_PUBLIC_ADDRESSES:,} addresses, as many as a /16; "
                "more would be open to the world",
                "name the networks that your people and machines come from",
            )
        if duplicate := first_duplicate(self.zones):
            raise violation(f'zones must be unique; "{duplicate}" occurs twice', "remove one")
        pools_that_run(self.node_pools)
        return self
