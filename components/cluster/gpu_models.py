"""GPU models with their MIG profiles, and EC2 instance types with their GPUs and prices.

Sources: profiles and PCI ids from mig-parted's `config-default.yaml` (checked against it by a test); slice sizes and
placements from NVIDIA's MIG user guide, "Supported MIG profiles" (release 580); instance sizes from the EC2 user
guide; prices are the on-demand list prices for Linux in us-east-1 of November 2025, in USD an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class GpuModel(StrEnum):
    """A GPU model, by name and memory in GB."""

    A30 = "a30"
    A100_40 = "a100-40"
    A100_80 = "a100-80"
    H100_80 = "h100-80"
    H100_94 = "h100-94"
    H200 = "h200"
    B200 = "b200"
    GB200 = "gb200"
    L4 = "l4"
    L40S = "l40s"
    A10G = "a10g"
    T4 = "t4"


@dataclass(frozen=True)
class Profile:
    """A MIG profile. A GPU is a row of memory slices; an instance of a profile covers `span` of them from a start."""

    name: str
    compute: int
    """Number of compute slices that an instance uses."""
    span: int
    """Number of memory slices that an instance uses."""
    starts: tuple[int, ...]
    """Indices of memory slices at which an instance may begin."""
    limit: int
    """Most instances of this profile on one GPU."""


@dataclass(frozen=True)
class Gpu:
    """Slices and MIG profiles of a GPU model."""

    model: GpuModel
    memory_gb: int
    compute_slices: int
    """0 means that the model does not support MIG."""
    memory_slices: int
    profiles: tuple[Profile, ...]
    pci_ids: tuple[str, ...] = ()

    def profile(self, name: str) -> Profile | None:
        """The profile with this name, or None."""
        return next((p for p in self.profiles if p.name == name), None)


def _seven(one: str, one_wide: str, two: str, three: str, four: str, seven: str) -> tuple[Profile, ...]:
    """Profiles of a GPU with seven compute slices and eight memory slices."""
    return (
        Profile(f"1g.{one}gb", 1, 1, (0, 1, 2, 3, 4, 5, 6), 7),
        Profile(f"1g.{one}gb+me", 1, 1, (0, 1, 2, 3, 4, 5, 6), 1),
        Profile(f"1g.{one_wide}gb", 1, 2, (0, 2, 4, 6), 4),
        Profile(f"2g.{two}gb", 2, 2, (0, 2, 4), 3),
        Profile(f"3g.{three}gb", 3, 4, (0, 4), 2),
        Profile(f"4g.{four}gb", 4, 4, (0,), 1),
        Profile(f"7g.{seven}gb", 7, 8, (0,), 1),
    )


_GPUS = (
    Gpu(
        GpuModel.A30,
        24,
        4,
        4,
        (
            Profile("1g.6gb", 1, 1, (0, 1, 2, 3), 4),
            Profile("1g.6gb+me", 1, 1, (0, 1, 2, 3), 1),
            Profile("2g.12gb", 2, 2, (0, 2), 2),
            Profile("2g.12gb+me", 2, 2, (0, 2), 1),
            Profile("4g.24gb", 4, 4, (0,), 1),
        ),
        ("0x20B710DE",),
    ),
    Gpu(
        GpuModel.A100_40,
        40,
        7,
        8,
        _seven("5", "10", "10", "20", "20", "40"),
        ("0x20B010DE", "0x20B110DE", "0x20F110DE", "0x20F610DE"),
    ),
    Gpu(
        GpuModel.A100_80,
        80,
        7,
        8,
        _seven("10", "20", "20", "40", "40", "80"),
        ("0x20B210DE", "0x20B510DE", "0x20F310DE", "0x20F510DE"),
    ),
    Gpu(
        GpuModel.H100_80,
        80,
        7,
        8,
        _seven("10", "20", "20", "40", "40", "80"),
        ("0x233010DE", "0x233110DE", "0x232210DE", "0x232410DE"),
    ),
    Gpu(GpuModel.H100_94, 94, 7, 8, _seven("12", "24", "24", "47", "47", "94"), ("0x232110DE", "0x233A10DE")),
    Gpu(GpuModel.H200, 141, 7, 8, _seven("18", "35", "35", "71", "71", "141"), ("0x233510DE", "0x233B10DE")),
    Gpu(GpuModel.B200, 180, 7, 8, _seven("23", "45", "45", "90", "90", "180"), ("0x290110DE",)),
    Gpu(GpuModel.GB200, 186, 7, 8, _seven("23", "47", "47", "93", "93", "186"), ("0x294110DE",)),
    Gpu(GpuModel.L4, 24, 0, 0, ()),
    Gpu(GpuModel.L40S, 48, 0, 0, ()),
    Gpu(GpuModel.A10G, 24, 0, 0, ()),
    Gpu(GpuModel.T4, 16, 0, 0, ()),
)
GPUS = {gpu.model: gpu for gpu in _GPUS}
"""All known GPUs by model."""


class Quota(StrEnum):
    """EC2's service quotas for running on-demand instances, in vCPUs."""

    G = "L-DB2E81BA"
    P = "L-417A185B"


@dataclass(frozen=True)
class GpuInstance:
    """An EC2 instance type with GPUs."""

    name: str
    gpu: GpuModel
    gpus: int
    vcpus: int
    memory_gib: int
    regions: frozenset[str]
    """AWS regions that offer it, as of November 2025."""
    hourly_usd: Decimal | None
    """None: offered in Capacity Blocks only."""
    quota: Quota


_US = ("us-east-1", "us-east-2", "us-west-2")
_WIDE = frozenset(
    (*_US, "ca-central-1", "eu-central-1", "eu-west-1", "eu-west-2", "eu-north-1", "ap-northeast-1", "ap-south-1")
)
_P4D = frozenset((*_US, "eu-central-1", "eu-west-1", "eu-west-2", "ap-northeast-1", "ap-northeast-2", "ap-south-1"))
_P4DE = frozenset(("us-east-1", "us-west-2", "eu-west-1"))
_P5 = frozenset(
    (*_US, "us-west-1", "eu-north-1", "eu-west-2", "ap-northeast-1", "ap-south-1", "ap-southeast-2", "sa-east-1")
)
_P5EN = frozenset((*_US, "us-west-1", "ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-3"))
_INSTANCES = (
    GpuInstance("p4d.24xlarge", GpuModel.A100_40, 8, 96, 1152, _P4D, Decimal("21.9576"), Quota.P),
    GpuInstance("p4de.24xlarge", GpuModel.A100_80, 8, 96, 1152, _P4DE, Decimal("27.4471"), Quota.P),
    GpuInstance("p5.4xlarge", GpuModel.H100_80, 1, 16, 256, _P5, Decimal("6.88"), Quota.P),
    GpuInstance("p5.48xlarge", GpuModel.H100_80, 8, 192, 2048, _P5, Decimal("55.04"), Quota.P),
    GpuInstance("p5e.48xlarge", GpuModel.H200, 8, 192, 2048, frozenset(("us-east-2", "us-west-2")), None, Quota.P),
    GpuInstance("p5en.48xlarge", GpuModel.H200, 8, 192, 2048, _P5EN, Decimal("63.296"), Quota.P),
    GpuInstance("p6-b200.48xlarge", GpuModel.B200, 8, 192, 2048, frozenset(_US), Decimal("113.9328"), Quota.P),
    GpuInstance("p6e-gb200.36xlarge", GpuModel.GB200, 4, 144, 960, frozenset(("us-east-1",)), None, Quota.P),
    GpuInstance("g4dn.xlarge", GpuModel.T4, 1, 4, 16, _WIDE, Decimal("0.526"), Quota.G),
    GpuInstance("g5.xlarge", GpuModel.A10G, 1, 4, 16, _WIDE, Decimal("1.006"), Quota.G),
    GpuInstance("g5.12xlarge", GpuModel.A10G, 4, 48, 192, _WIDE, Decimal("5.672"), Quota.G),
    GpuInstance("g6.xlarge", GpuModel.L4, 1, 4, 16, _WIDE, Decimal("0.8048"), Quota.G),
    GpuInstance("g6.12xlarge", GpuModel.L4, 4, 48, 192, _WIDE, Decimal("4.6016"), Quota.G),
    GpuInstance("g6e.xlarge", GpuModel.L40S, 1, 4, 32, _WIDE, Decimal("1.861"), Quota.G),
    GpuInstance("g6e.12xlarge", GpuModel.L40S, 4, 48, 384, _WIDE, Decimal("10.4926"), Quota.G),
)
INSTANCES = {instance.name: instance for instance in _INSTANCES}
"""All known EC2 instance types with GPUs, by name."""
