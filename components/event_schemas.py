"""Schemas of events, and the check that changes to them are compatible: new readers must accept old events.

`python -m components.event_schemas` records the current schemas as released. It refuses incompatible changes, as does
every preview.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from components import sources
from components.services.record import DataIntent

FOLDER = sources.SERVICE_IMAGES / "kit" / "src" / "kit" / "events"
RELEASED = Path(__file__).with_name("released_schemas.json")
"""File with the released schemas. Stored events may follow them."""
Schema = dict[str, Any]


class IncompatibleSchema(Exception):
    """A changed schema would make readers refuse stored events, or events of services that are not updated yet."""


def current() -> dict[str, Schema]:
    """Schema of the event data by topic."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def own(intents: Iterable[DataIntent]) -> dict[str, Schema]:
    """Schema of the whole value by topic, of topics of the user's own services."""
    return {topic: json.loads(schema) for intent in intents for topic, schema in intent.schemas.items()}


def broken(before: Schema, after: Schema, place: str = "data") -> Iterator[str]:
    """Reasons why the new schema refuses events that the old one allows; none if it is compatible."""
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


def findings(before: Mapping[str, Schema], after: Mapping[str, Schema]) -> list[tuple[str, str]]:
    """(topic, reason) of each incompatible change of the platform's schemas. A new topic is compatible."""
    found = [(t, reason) for t in sorted(before.keys() & after.keys()) for reason in broken(before[t], after[t])]
    return found + [(topic, "the topic is gone") for topic in sorted(before.keys() - after.keys())]


def own_findings(before: Mapping[str, Schema], after: Mapping[str, Schema]) -> list[tuple[str, str]]:
    """The same for schemas of own topics. A topic may go with its service: its events and its schema stay."""
    kept = sorted(before.keys() & after.keys())
    return [(topic, reason) for topic in kept for reason in broken(before[topic], after[topic], "value")]


def refuse() -> None:
    """Raise IncompatibleSchema if this checkout's schemas are incompatible with the released ones. Names all topics."""
    broken_ones = findings(json.loads(RELEASED.read_text()), current())
    if broken_ones:
        reasons = "\n".join(f"  {topic}: {reason}" for topic, reason in broken_ones)
        fix = "undo it, or give the event a new version with a topic of its own"
        raise IncompatibleSchema(f"schemas of events are not compatible with those released:\n{reasons}\n  fix: {fix}")


def release() -> None:
    """Record this checkout's schemas as released. Raises IncompatibleSchema."""
    refuse()
    RELEASED.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    release()
