"""Compares two configurations. Each difference has the upgrade mark of its field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pydantic.alias_generators import to_camel

from components.config.base import Change, Section
from components.config.platform import PlatformConfig

_ORDER = (Change.SAFE, Change.DISRUPTIVE, Change.IMMUTABLE)


@dataclass(frozen=True)
class Changed:
    """One difference. `before` or `after` is None if that side lacks the field or the list entry."""

    path: str
    before: object
    after: object
    mark: Change


def changes(before: PlatformConfig, after: PlatformConfig) -> tuple[Changed, ...]:
    """All differences. List entries are matched by name, so a changed order is no difference."""
    return tuple(_sections("", before, after))


def _sections(prefix: str, before: Section, after: Section) -> Iterator[Changed]:
    for name, field in type(after).model_fields.items():
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        extra = cast("dict[str, str]", field.json_schema_extra or {})
        yield from _values(f"{prefix}{to_camel(name)}", old, new, Change(extra.get("x-change", Change.SAFE)))


def _values(path: str, old: object, new: object, mark: Change) -> Iterator[Changed]:
    if isinstance(old, Section) and type(old) is type(new):
        yield from _sections(f"{path}.", old, cast("Section", new))
    elif (before := _named(old)) is not None and (after := _named(new)) is not None:
        for name in before.keys() | after.keys():
            where, one, other = f"{path}[{name}]", before.get(name), after.get(name)
            if one is None or other is None:
                # Removing an entry affects whoever used it, so it is at least disruptive.
                least = mark if one is None else max(mark, Change.DISRUPTIVE, key=_ORDER.index)
                yield Changed(where, _plain(one), _plain(other), least)
            else:
                yield from _sections(f"{where}.", one, other)
    else:
        # Adding a section removes nothing, so it is safe.
        added = old is None and isinstance(new, Section)
        yield Changed(path, _plain(old), _plain(new), Change.SAFE if added else mark)


def _named(value: object) -> dict[str, Section] | None:
    """Entries of a list, or of an object of sections, by name; None for any other value."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        own = {name: member for name, member in members.items() if isinstance(member, Section)}
        return own if len(own) == len(members) else None
    if not isinstance(value, tuple):
        return None
    entries = cast("tuple[object, ...]", value)
    if not all(isinstance(entry, Section) and "name" in type(entry).model_fields for entry in entries):
        return None
    return {str(getattr(entry, "name")): cast("Section", entry) for entry in entries}  # noqa: B009


def _plain(value: object) -> object:
    return value.model_dump(mode="json", by_alias=True) if isinstance(value, Section) else value
