"""Judges changes of versions, by the catalogue's records of tested upgrades or by semantic versioning."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.transitions import TRANSITIONS, Risk, Transition


@dataclass(frozen=True)
class Move:
    """A change of one part's version."""

    part: str
    before: str
    after: str
    risk: Risk
    notes: str
    way_back: str


def numbers(version: str) -> tuple[int, int, int] | None:
    """(major, minor, patch) of a version such as "v1.34.10-eksbuild.1" or "1.34"; None for any other text."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def move(part: str, before: str, after: str, records: Iterable[Transition] = ()) -> Move:
    """Judge a change of version: by its record if it was tested, else by semantic versioning.

    The version "1.33" in a record covers 1.33.x.
    """
    for record in records:
        if _covers(record.from_version, before) and _covers(record.to_version, after):
            return Move(part, before, after, record.risk, record.notes, record.way_back)
    one, other = numbers(before), numbers(after)
    back = "set the old version and run `forge up`"
    if one is None or other is None:
        return Move(part, before, after, Risk.MANUAL, "not tested; read the release notes of both versions", back)
    if other < one:
        notes = "a downgrade: the newer version may have written data that the older one cannot read"
        return Move(part, before, after, Risk.BLOCKED, notes, back)
    if other[0] != one[0]:
        notes = "a new major version, not tested; add a record to the catalogue after a test"
        return Move(part, before, after, Risk.BLOCKED, notes, back)
    if other[1] != one[1]:
        return Move(part, before, after, Risk.MANUAL, "not tested; read the release notes, upgrade dev first", back)
    return Move(part, before, after, Risk.SAFE, "a patch release", back)


def kubernetes(before: str, after: str) -> Move:
    """Judge a change of the cluster's Kubernetes version.

    Source: https://docs.aws.amazon.com/eks/latest/userguide/update-cluster.html (one minor version at a time,
    never back).
    """
    one, other = numbers(before), numbers(after)
    no_way_back = "none: EKS cannot downgrade; create a new cluster with the old version and restore the data"
    if one is None or other is None or one[0] != other[0] or other[1] - one[1] not in (0, 1):
        step = f"{one[0]}.{one[1] + 1}" if one else "the next minor version"
        back = one is not None and other is not None and other < one
        notes = (
            "a control plane cannot be downgraded" if back else f"minor versions cannot be skipped: go to {step} first"
        )
        return Move("kubernetes", before, after, Risk.BLOCKED, notes, no_way_back)
    notes = "the control plane is upgraded first, then nodes are replaced within their disruption budgets"
    records = TRANSITIONS.get("kubernetes", ())
    found = move("kubernetes", before, after, records)
    if found.notes and any(found.notes == record.notes for record in records):
        notes = f"{notes}; {found.notes}"
    return Move("kubernetes", before, after, Risk.MANUAL, notes, no_way_back)


def moves(before: Mapping[str, str], after: Mapping[str, str]) -> list[Move]:
    """Changes of all parts that are in both and have different versions."""
    return [
        move(part, before[part], after[part], TRANSITIONS.get(part, ()))
        for part in sorted(before.keys() & after.keys())
        if before[part] != after[part]
    ]


def _covers(recorded: str, version: str) -> bool:
    return version == recorded or version.startswith(f"{recorded}.")
