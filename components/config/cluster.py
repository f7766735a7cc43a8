"""Where the platform runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Section, first_duplicate, setting
from components.config.eks import Eks
from components.config.gpu import GpuPool
from components.config.problems import violation


class ClusterKind(StrEnum):
    """Where the platform runs."""

    LOCAL = "local"
    """The Kubernetes node that `forge up` starts on this machine."""
    EXISTING = "existing"
    """A cluster that a kubeconfig context names."""
    EKS = "eks"
    """A cluster on AWS that the platform makes."""


class NetworkPolicies(StrEnum):
    """What the cluster's network does with NetworkPolicies."""

    ENFORCED = "enforced"
    """The network plugin enforces them; each update proves that with a pod without rights."""
    NOT_ENFORCED = "not-enforced"
    """Every pod of the cluster reaches every port of the platform. Nothing is proven."""


class Cluster(Section):
    """Where the platform runs."""

    kind: ClusterKind = setting(Change.IMMUTABLE, "local, existing or eks", strict=False)
    context: str = setting(Change.IMMUTABLE, "kubeconfig context of an existing cluster", default="", max_length=253)
    namespace: DnsLabel = setting(Change.IMMUTABLE, "Namespace of the platform", default="cogniforge")
    eks: Eks | None = setting(Change.IMMUTABLE, "The AWS cluster; with kind: eks only", default=None)
    network_policies: NetworkPolicies = setting(
        Change.SAFE,
        "enforced or not-enforced: whether the cluster's network keeps pods apart",
        default=NetworkPolicies.ENFORCED,
        strict=False,
    )
    gpu_pools: tuple[GpuPool, ...] = setting(
        Change.DISRUPTIVE, "Nodes with GPUs", default=(), max_length=20, strict=False
    )

    @model_validator(mode="after")
    def _context_fits(self) -> Self:
        if self.kind is ClusterKind.EXISTING and not self.context:
            raise violation("context is required when kind is existing", "name a context of your kubeconfig")
        if self.kind is not ClusterKind.EXISTING and self.context:
            raise violation(f"context has no meaning when kind is {self.kind}", "remove context, or set kind: existing")
        if (self.kind is ClusterKind.EKS) != (self.eks is not None):
            fix = "add eks with region and accountId" if self.eks is None else "remove eks, or set kind: eks"
            raise violation("eks belongs to kind: eks, and to no other", fix)
        if duplicate := first_duplicate(tuple(pool.name for pool in self.gpu_pools)):
            raise violation(f'names of gpuPools must be unique; "{duplicate}" is there twice', "rename one")
        return self
