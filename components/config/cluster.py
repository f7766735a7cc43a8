"""The cluster section of the configuration: the Kubernetes cluster that the platform runs on."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Section, first_duplicate, setting, several
from components.config.eks import Eks
from components.config.gpu import GpuPool
from components.config.problems import violation


class ClusterKind(StrEnum):
    """Kind of Kubernetes cluster."""

    LOCAL = "local"
    """The Kubernetes node that `forge up` starts on this machine."""
    EXISTING = "existing"
    """A cluster that exists already, selected by a kubeconfig context."""
    EKS = "eks"
    """An Amazon EKS cluster that the platform creates."""


class NetworkPolicies(StrEnum):
    """Whether the cluster's network plugin enforces NetworkPolicies."""

    ENFORCED = "enforced"
    """Enforced. Each update proves that: a pod without rights must not reach the platform."""
    NOT_ENFORCED = "not-enforced"
    """Not enforced: every pod of the cluster reaches every port of the platform. Updates skip the proof."""


class Cluster(Section):
    """The Kubernetes cluster that the platform runs on."""

    kind: ClusterKind = setting(Change.IMMUTABLE, "Kind of cluster: local, existing or eks", strict=False)
    context: str = setting(Change.IMMUTABLE, "kubeconfig context; with kind: existing only", default="", max_length=253)
    namespace: DnsLabel = setting(Change.IMMUTABLE, "Namespace for the platform's objects", default="cogniforge")
    eks: Eks | None = setting(Change.IMMUTABLE, "Amazon EKS cluster; with kind: eks only", default=None)
    network_policies: NetworkPolicies = setting(
        Change.SAFE,
        "Whether the cluster's network enforces NetworkPolicies: enforced or not-enforced",
        default=NetworkPolicies.ENFORCED,
        strict=False,
    )
    gpu_pools: tuple[GpuPool, ...] = several(Change.DISRUPTIVE, "Pools of nodes with GPUs", 20)

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
            raise violation(f'names of gpuPools must be unique; "{duplicate}" occurs twice', "rename one")
        return self
