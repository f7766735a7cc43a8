"""The GPU section of the configuration: pools of nodes, and how MIG splits their GPUs into slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self, cast

from pydantic import BeforeValidator, Field, Strict, model_validator

from components.cluster import mig
from components.cluster.gpu_models import GPUS, INSTANCES, GpuInstance, GpuModel
from components.cluster.mig import Layout, MigError, MigStrategy
from components.config.base import Change, DnsLabel, Section, first_duplicate, setting, several
from components.config.eks import Capacity
from components.config.problems import violation

Counts = Annotated[dict[str, int], Field(min_length=1, max_length=7)]


def _layout_shape(value: object) -> object:
    """Validates the shape of a MIG layout with one error. The union type alone would report one error per member."""
    fix = 'write a name such as "all-balanced", counts such as {"3g.40gb": 2}, or a list of these'
    entries = list(cast("Sequence[object]", value)) if isinstance(value, list | tuple) else [value]
    for entry in entries:
        counts = cast("dict[object, object]", entry) if isinstance(entry, dict) else None
        if not isinstance(entry, str) and not counts:
            raise violation("a layout's name, counts by profile, or a list with one entry per GPU", fix)
        for count in counts.values() if counts else ():
            if not isinstance(count, int) or isinstance(count, bool):
                raise violation("counts must be whole numbers", fix)
    return cast("object", value)


MigSetting = Annotated[
    str | Counts | Annotated[tuple[str | Counts, ...], Strict(False)], BeforeValidator(_layout_shape)
]


class NodeOs(StrEnum):
    """Operating system of GPU nodes."""

    AL2023 = "al2023"
    """EKS's accelerated Amazon Linux 2023 image, with NVIDIA driver and container toolkit."""
    BOTTLEROCKET = "bottlerocket"
    """Bottlerocket's NVIDIA variant: read-only root. Its device plugin supports strategy `single` only."""


class Tenant(Section):
    """A tenant's quota of a pool."""

    namespace: DnsLabel = setting(Change.SAFE, "Namespace of the tenant")
    slices: Counts = setting(
        Change.SAFE, 'Number of slices by MIG profile, such as {"1g.10gb": 4}; "gpu" for whole GPUs'
    )


class GpuPool(Section):
    """A pool of nodes with the same GPU model and MIG layout."""

    name: DnsLabel = setting(Change.IMMUTABLE, "Name of the pool")
    gpu: GpuModel = setting(Change.IMMUTABLE, "GPU model", strict=False)
    instance_type: str = setting(
        Change.DISRUPTIVE, "EC2 instance type; required with kind: eks", default="", max_length=40
    )
    gpus_per_node: int = setting(
        Change.IMMUTABLE, "GPUs per node; with kind: eks the instance type gives it", default=0, ge=0, le=16
    )
    mig: MigSetting = setting(
        Change.DISRUPTIVE,
        'MIG layout: a name such as all-1g.10gb or all-balanced, counts such as {"3g.40gb": 2}, or a list with one '
        "entry per GPU",
        default="all-disabled",
    )
    strategy: MigStrategy = setting(
        Change.DISRUPTIVE,
        "Resource name of slices. single: nvidia.com/gpu; mixed: one per profile, such as nvidia.com/mig-1g.10gb",
        default=MigStrategy.MIXED,
        strict=False,
    )
    os: NodeOs = setting(
        Change.DISRUPTIVE, "Operating system: al2023 or bottlerocket", default=NodeOs.AL2023, strict=False
    )
    capacity: Capacity = setting(
        Change.DISRUPTIVE, "Purchase option: on-demand or spot", default=Capacity.ON_DEMAND, strict=False
    )
    min_nodes: int = setting(Change.SAFE, "Minimum number of nodes", default=0, ge=0, le=500)
    max_nodes: int = setting(Change.SAFE, "Maximum number of nodes", default=1, ge=1, le=500)
    hourly_usd: float | None = setting(
        Change.SAFE, "Price of a node in USD per hour; default: the list price in us-east-1", default=None, gt=0
    )
    tenants: tuple[Tenant, ...] = several(Change.SAFE, "Quotas of tenants in the pool", 50)

    @property
    def instance(self) -> GpuInstance | None:
        """The EC2 instance type; None for a pool that exists already."""
        return INSTANCES.get(self.instance_type)

    @property
    def gpus(self) -> int:
        """Number of GPUs per node."""
        return self.instance.gpus if self.instance else self.gpus_per_node

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """MIG layouts of a node, one per GPU."""
        return mig.parse(self.gpu, self.gpus, _spec(self.mig))

    @property
    def resources(self) -> dict[str, int]:
        """Number of GPUs or slices that a node offers to pods, by extended resource name."""
        return mig.resources(self.strategy, self.layouts)

    @property
    def node_usd(self) -> Decimal | None:
        """Price of a node in USD per hour; None if no price is known."""
        if self.hourly_usd is not None:
            return Decimal(str(self.hourly_usd))
        return self.instance.hourly_usd if self.instance else None

    def hourly_range_usd(self) -> tuple[Decimal, Decimal]:
        """Price in USD per hour with minNodes and with maxNodes; zero if no price is known."""
        price = self.node_usd or Decimal()
        return price * self.min_nodes, price * self.max_nodes

    def slice_usd(self) -> dict[str, Decimal]:
        """Price of one slice in USD per hour by resource name: the GPU's price divided by memory slices."""
        price = self.node_usd
        if price is None:
            return {}
        gpu, paid, counted = GPUS[self.gpu], dict[str, Decimal](), dict[str, int]()
        for layout in self.layouts:
            spans = {name: profile.span for name, _ in layout if (profile := gpu.profile(name))}
            used = sum(spans[name] * count for name, count in layout)
            for name, count in layout or ((None, 1),):
                named = self.strategy is MigStrategy.MIXED and name is not None
                key = mig.resource_name(name) if named and name else mig.GPU_RESOURCE
                share = Decimal(spans[name] * count) / used if name else Decimal(1)
                paid[key] = paid.get(key, Decimal()) + price / self.gpus * share
                counted[key] = counted.get(key, 0) + count
        return {key: (paid[key] / counted[key]).quantize(Decimal("0.0001")) for key in sorted(paid)}

    def tenant_resources(self, tenant: Tenant) -> dict[str, int]:
        """A tenant's quota by extended resource name."""
        single = self.strategy is MigStrategy.SINGLE
        totals: dict[str, int] = {}
        for name, count in tenant.slices.items():
            key = mig.GPU_RESOURCE if single or name == "gpu" else mig.resource_name(name)
            totals[key] = totals.get(key, 0) + count
        return totals

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if self.instance_type and self.instance is None:
            fitting = ", ".join(i.name for i in INSTANCES.values() if i.gpu is self.gpu) or "none is known"
            raise violation(f'no known GPU instance type "{self.instance_type}"', f"for {self.gpu}: {fitting}")
        if self.instance and self.instance.gpu is not self.gpu:
            raise violation(f"{self.instance_type} has {self.instance.gpu}, not {self.gpu}", "change one of them")
        if self.instance and self.gpus_per_node not in (0, self.instance.gpus):
            raise violation(f"{self.instance_type} has {self.instance.gpus} GPUs", "remove gpusPerNode")
        if self.gpus == 0:
            raise violation("instanceType or gpusPerNode is required", "add one")
        if self.min_nodes > self.max_nodes:
            raise violation("minNodes must not exceed maxNodes", f"lower minNodes to {self.max_nodes} or less")
        try:
            offered = self.resources
        except MigError as error:
            raise violation(error.limit, error.fix) from None
        cut = any(self.layouts)
        if cut and self.os is NodeOs.BOTTLEROCKET and self.strategy is MigStrategy.MIXED:
            raise violation(
                "Bottlerocket offers MIG slices with strategy single only",
                "set strategy: single with one kind of slice, or os: al2023",
            )
        self._shares_fit(offered)
        return self

    def _shares_fit(self, offered: Mapping[str, int]) -> None:
        if duplicate := first_duplicate(tuple(t.namespace for t in self.tenants)):
            raise violation(f'tenants must be unique; "{duplicate}" occurs twice', "merge them")
        wanted: dict[str, int] = {}
        for tenant in self.tenants:
            for name, count in self.tenant_resources(tenant).items():
                if count < 1:
                    raise violation(f"{tenant.namespace} requests {count} of {name}; at least 1", "remove the entry")
                wanted[name] = wanted.get(name, 0) + count
        for name, count in wanted.items():
            most = offered.get(name, 0) * self.max_nodes
            if count > most:
                raise violation(
                    f"tenants request {count} of {name}; {self.max_nodes} nodes offer {most}",
                    "raise maxNodes, choose another MIG layout, or lower the quotas",
                )


def _spec(value: str | dict[str, int] | Sequence[str | dict[str, int]]) -> mig.LayoutSpec:
    return value
