"""The schemas of events: what they are in this checkout, and what a change of one means for who reads old events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

FOLDER = Path(__file__).resolve().parents[1] / "service_images" / "kit" / "src" / "kit" / "events"
Schema = dict[str, Any]


def current() -> dict[str, Schema]:
    """The schema of each topic's data."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def broken(before: Schema, after: Schema, place: str = "data") -> Iterator[str]:
    """Why events that the old schema allows would be refused by the new one; nothing where none would."""
    if before.get("type") != after.get("type"):
        yield f"{place} was of type {before.get('type', 'any')}, and is {after.get('type', 'any')}"
        return
    for name in _texts(after.get("required")) - _texts(before.get("required")):
        yield f"{place}.{name} was optional or unknown, and is required"
    old, new = cast("Schema", before.get("properties", {})), cast("Schema", after.get("properties", {}))
    for name in sorted(old.keys() & new.keys()):
        yield from broken(old[name], new[name], f"{place}.{name}")
    if "enum" in after and not _texts(before.get("enum")) <= _texts(after["enum"]):
        gone = ", ".join(sorted(_texts(before.get("enum")) - _texts(after["enum"])))
        yield f"{place} may no longer be {gone}"
    elif "enum" in after and "enum" not in before:
        yield f"{place} was free, and is one of {', '.join(sorted(_texts(after['enum'])))}"
    for key, narrower in (("minimum", max), ("minLength", max), ("maximum", min), ("maxLength", min)):
        if key in after and (key not in before or narrower(before[key], after[key]) != before[key]):
            yield f"{place} has {key} {after[key]}, which old events need not keep"
    if "pattern" in after and after["pattern"] != before.get("pattern"):
        yield f"{place} has another pattern"


def _texts(values: object) -> set[str]:
    return {str(value) for value in cast("list[object]", values or [])}


def findings(before: dict[str, Schema], after: dict[str, Schema]) -> list[tuple[str, str]]:
    """(topic, reason) for each change that old events would not survive. A new topic breaks nothing."""
    found = [(t, reason) for t in sorted(before.keys() & after.keys()) for reason in broken(before[t], after[t])]
    return found + [(topic, "the topic is gone") for topic in sorted(before.keys() - after.keys())]
