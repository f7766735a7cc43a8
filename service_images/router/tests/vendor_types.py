"""One document for each string type in the client library of a vendor's API."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

import typing_extensions
from pydantic import BaseModel

MARKER = "mail ann@example.com now"
_WRAPPERS = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


def documents(kind: Any) -> list[tuple[str, Any]]:
    """(path of the string, a document that contains `MARKER` only there)."""
    return list(_samples(kind, "", set(), ""))


def _samples(kind: Any, trail: str, seen: set[Any], name: str) -> Iterator[tuple[str, Any]]:
    origin = get_origin(kind)
    if isinstance(kind, typing_extensions.TypeAliasType):
        yield from _samples(kind.__value__, trail, seen, name)
    elif origin is typing.Annotated or origin in _WRAPPERS:
        yield from _samples(get_args(kind)[0], trail, seen, name)
    elif origin in (Union, types.UnionType):
        for one in get_args(kind):
            yield from _samples(one, trail, seen, name)
    elif origin is Literal or kind in (int, float, bool, type(None), bytes):
        return
    elif kind is str or kind is object or kind is Any:
        yield trail, MARKER
    elif origin is dict or kind is dict:
        yield f"{trail}.(key)", {MARKER: "x"}
        of = get_args(kind)[1] if get_args(kind) else str
        for where, value in _samples(of, f"{trail}.(value)", seen, name):
            yield where, {"a": value}
    elif origin is not None and get_args(kind):
        for where, value in _samples(get_args(kind)[0], f"{trail}[]", seen, name):
            yield where, [value]
    elif isinstance(kind, type):
        yield from _fields(kind, trail, seen, name)


def _fields(kind: Any, trail: str, seen: set[Any], name: str) -> Iterator[tuple[str, Any]]:
    """Each type once under each field that contains it."""
    if (kind, name) in seen:
        return
    seen.add((kind, name))
    hints = _hints(kind)
    fixed = {field: value for field, hint in hints.items() if (value := _only(hint)) is not None}
    for field, hint in hints.items():
        for where, value in _samples(hint, f"{trail}.{field}", seen, field):
            yield where, {**fixed, field: value}


def _hints(kind: Any) -> dict[str, Any]:
    if issubclass(kind, BaseModel):
        return {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    if typing_extensions.is_typeddict(kind):
        return typing_extensions.get_type_hints(kind, include_extras=True)
    return {}


def _only(hint: Any) -> Any:
    """The only value of a field, such as the type of a block."""
    while get_origin(hint) is typing.Annotated or get_origin(hint) in _WRAPPERS:
        hint = get_args(hint)[0]
    values = get_args(hint) if get_origin(hint) is Literal else ()
    return values[0] if len(values) == 1 else None
