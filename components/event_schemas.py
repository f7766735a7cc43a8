"""The schemas of events: what they are in this checkout, and what a change of one means for who reads old events.

`python -m components.event_schemas` writes down what is released; an incompatible schema is refused there, and in every
preview.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

FOLDER = Path(__file__).resolve().parents[1] / "service_images" / "kit" / "src" / "kit" / "events"
RELEASED = Path(__file__).with_name("released_schemas.json")
"""The schemas that readers may have seen events of."""
Schema = dict[str, Any]


class IncompatibleSchema(Exception):
    """Events that are kept, or still come, would be refused by who reads them."""


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


def refuse() -> None:
    """Raises IncompatibleSchema with every topic whose schema in this checkout breaks what is released."""
    broken_ones = findings(json.loads(RELEASED.read_text()), current())
    if broken_ones:
        told = "\n".join(f"  {topic}: {reason}" for topic, reason in broken_ones)
        fix = "undo it, or give the event a new version with a topic of its own"
        raise IncompatibleSchema(f"schemas of events are not compatible with those released:\n{told}\n  fix: {fix}")


def release() -> None:
    """Write down the schemas of this checkout as released. Raises IncompatibleSchema."""
    refuse()
    RELEASED.write_text(json.dumps(current(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    release()
