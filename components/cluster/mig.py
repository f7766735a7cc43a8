"""MIG layouts: how GPUs are split into slices, and whether a layout fits.

A layout is a name that mig-parted defines (`all-1g.10gb`, `all-balanced`, `all-disabled`), counts by profile
(`{"1g.10gb": 4, "3g.40gb": 1}`), or a list with one such entry per GPU of a node.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.cluster.gpu_models import GPUS, Gpu, GpuModel, Profile

Layout = tuple[tuple[str, int], ...]
"""Instances of one GPU as sorted (profile, count) pairs; empty means that MIG is off."""
LayoutSpec = str | Mapping[str, int] | Sequence[str | Mapping[str, int]]
"""A layout in the notation of the configuration."""
GPU_RESOURCE = "nvidia.com/gpu"
_DISABLED = "all-disabled"
_BALANCED = "all-balanced"
_MEDIA_SUFFIX = "+me"
_MEDIA = "a GPU has one set of media engines"


class MigStrategy(StrEnum):
    """How slices are offered to pods."""

    SINGLE = "single"
    """As `nvidia.com/gpu`. All slices of a node must have the same profile."""
    MIXED = "mixed"
    """As `nvidia.com/mig-<profile>`. A node may have slices of several profiles."""


class MigError(ValueError):
    """The GPU does not support a layout. `limit` says what is allowed, `fix` what to do."""

    def __init__(self, limit: str, fix: str) -> None:
        super().__init__(f"{limit}; {fix}")
        self.limit = limit
        self.fix = fix


@dataclass(frozen=True)
class Placement:
    """Position of one instance on its GPU."""

    profile: str
    start: int
    span: int


def parse(model: GpuModel, gpus: int, spec: LayoutSpec) -> tuple[Layout, ...]:
    """Layouts of a node, one per GPU. Raises MigError if a layout is unknown or does not fit."""
    if isinstance(spec, str | Mapping):
        return (_one(model, spec),) * gpus
    if len(spec) != gpus:
        raise MigError(
            f"one entry per GPU of the node, which has {gpus}; the list has {len(spec)}", "add or remove entries"
        )
    return tuple(_one(model, entry) for entry in spec)


def _one(model: GpuModel, spec: str | Mapping[str, int]) -> Layout:
    gpu = GPUS[model]
    counts = named_layout(gpu, spec) if isinstance(spec, str) else dict(spec)
    if not counts:
        return ()
    if not gpu.profiles:
        able = ", ".join(g.model for g in GPUS.values() if g.profiles)
        raise MigError(f"{model} has no MIG", f"remove mig, or choose one of {able}")
    for name, count in counts.items():
        profile = gpu.profile(name)
        if profile is None:
            raise MigError(f'{model} has no MIG profile "{name}"', f"use one of {_names(gpu)}")
        if count < 1:
            held = f"{model} holds 1 to {profile.limit} of {name}, not {count}"
            raise MigError(held, f"remove {name}, or ask for 1 to {profile.limit}")
        if count > profile.limit:
            raise MigError(_too_many(gpu, profile, count), f"ask for at most {profile.limit}")
    layout = tuple(sorted(counts.items()))
    if place(model, layout) is None:
        raise _unplaceable(gpu, layout)
    return layout


def _too_many(gpu: Gpu, profile: Profile, count: int) -> str:
    """Reason why a GPU does not support that many instances of one profile."""
    held = f"{gpu.model} holds 1 to {profile.limit} of {profile.name}, not {count}"
    return f"{held}: {_MEDIA}" if _media(profile) else held


def _unplaceable(gpu: Gpu, layout: Layout) -> MigError:
    """Error for a layout that does not fit: too many slices, media engines in use, or no valid start positions."""
    profiles = [_profile(gpu, name) for name, count in layout for _ in range(count)]
    compute, memory = sum(p.compute for p in profiles), sum(p.span for p in profiles)
    media = [p for p in profiles if _media(p)]
    reasons: list[str] = []
    fixes: list[str] = []
    if compute > gpu.compute_slices or memory > gpu.memory_slices:
        has = f"{gpu.model} has {gpu.compute_slices} and {gpu.memory_slices}"
        reasons.append(f"{describe(layout)} takes {compute} compute and {memory} memory slices; {has}")
        balanced = describe(tuple(named_layout(gpu, _BALANCED).items()))
        fixes.append(f"use fewer or smaller slices, such as {balanced}")
    if len(media) > 1:
        names = " and ".join(dict.fromkeys(p.name for p in media))
        reasons.append(f"{names} each need the media engines; {_MEDIA}")
        plain = " or ".join(dict.fromkeys(p.name.removesuffix(_MEDIA_SUFFIX) for p in media))
        fixes.append(f"keep one profile with {_MEDIA_SUFFIX}; for the others use {plain}")
    if not reasons:
        starts = "; ".join(
            f"{p.name} takes {p.span} from {', '.join(map(str, p.starts))}" for p in dict.fromkeys(profiles)
        )
        reasons.append(f"{describe(layout)} does not fit: memory slices start at fixed positions ({starts})")
        fixes.append("use fewer or smaller slices")
    return MigError(" and ".join(reasons), " and ".join(fixes))


def _media(profile: Profile) -> bool:
    """Whether an instance uses the media engines (decoders, encoder, JPEG), of which a GPU has one set."""
    return profile.name.endswith(_MEDIA_SUFFIX)


def named_layout(gpu: Gpu, name: str) -> dict[str, int]:
    """Counts by profile of a layout that mig-parted defines by name. Raises MigError for an unknown name."""
    if name == _DISABLED:
        return {}
    if name == _BALANCED and gpu.profiles:
        # Profiles with equal shares of memory and compute. The exception is 3g, which has a larger share of memory.
        one, *rest = [p for p in gpu.profiles if "+" not in p.name and (p.span == p.compute or p.compute == 3)]
        two = next(p for p in rest if p.compute == 2)
        three = next((p for p in rest if p.compute == 3), None)
        return {one.name: 2, two.name: 1, **({three.name: 1} if three else {})}
    profile = gpu.profile(name.removeprefix("all-").replace(".me", "+me")) if name.startswith("all-") else None
    if profile is None:
        names = ", ".join((_DISABLED, _BALANCED, *(layout_name(p) for p in gpu.profiles)))
        raise MigError(f'{gpu.model} has no layout "{name}"', f"use counts by profile, or one of {names}")
    return {profile.name: profile.limit}


def layout_name(profile: Profile) -> str:
    """mig-parted's name for the layout with the most instances of one profile."""
    return f"all-{profile.name.replace('+', '.')}"


@functools.cache
def place(model: GpuModel, layout: Layout) -> tuple[Placement, ...] | None:
    """Positions for all instances of a layout; None if it does not fit. Exact: the search is exhaustive."""
    gpu = GPUS[model]
    wanted = sorted((_profile(gpu, n) for n, c in layout for _ in range(c)), key=lambda p: (-p.span, p.name))
    if sum(p.compute for p in wanted) > gpu.compute_slices:
        return None
    if sum(map(_media, wanted)) > 1:
        return None

    def search(index: int, used: int) -> tuple[Placement, ...] | None:
        if index == len(wanted):
            return ()
        profile = wanted[index]
        for start in profile.starts:
            mask = ((1 << profile.span) - 1) << start
            if used & mask:
                continue
            rest = search(index + 1, used | mask)
            if rest is not None:
                return (Placement(profile.name, start, profile.span), *rest)
        return None

    return search(0, 0)


def resources(strategy: MigStrategy, layouts: Sequence[Layout]) -> dict[str, int]:
    """Number of slices of a node by extended resource name. Raises MigError for `single` with mixed profiles."""
    kinds = {name for layout in layouts for name, _ in layout}
    if strategy is MigStrategy.SINGLE:
        if len(kinds) > 1 or (kinds and any(not layout for layout in layouts)):
            raise MigError("strategy single needs the same profile for all slices of a node", "set strategy: mixed")
        return {GPU_RESOURCE: sum(sum(c for _, c in layout) or 1 for layout in layouts)}
    totals: dict[str, int] = {}
    for layout in layouts:
        for name, count in layout or ((None, 1),):
            key = resource_name(name) if name else GPU_RESOURCE
            totals[key] = totals.get(key, 0) + count
    return dict(sorted(totals.items()))


def resource_name(profile: str) -> str:
    """Extended resource name of a profile: `nvidia.com/mig-1g.10gb`, `nvidia.com/mig-1g.10gb.me`."""
    return f"nvidia.com/mig-{profile.replace('+', '.')}"


def parted_config(layouts: Sequence[Layout]) -> list[dict[str, Any]]:
    """The layouts as a mig-parted configuration, with one entry per group of GPUs with the same layout."""
    entries: list[dict[str, Any]] = []
    for layout in dict.fromkeys(layouts):
        devices = [i for i, other in enumerate(layouts) if other == layout]
        entry: dict[str, Any] = {"devices": "all" if len(devices) == len(layouts) else devices}
        entry["mig-enabled"] = bool(layout)
        if layout:
            entry["mig-devices"] = dict(layout)
        entries.append(entry)
    return entries


def describe(layout: Layout) -> str:
    """A layout as text: "4 x 1g.10gb + 1 x 3g.40gb"."""
    return " + ".join(f"{count} x {name}" for name, count in layout) or "MIG off"


def _profile(gpu: Gpu, name: str) -> Profile:
    profile = gpu.profile(name)
    assert profile is not None  # parse() has checked the name
    return profile


def _names(gpu: Gpu) -> str:
    return ", ".join(p.name for p in gpu.profiles)
