"""Turns validation errors into problems with path, value, limit and fix."""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake in the configuration."""

    path: str
    value: str
    limit: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path} = {self.value}\n    limit: {self.limit}\n    fix:   {self.fix}"


@dataclass(frozen=True)
class Conflict:
    """A violated rule between sections. `needs` are paths of the other fields that the rule reads."""

    location: Location
    value: object
    limit: str
    fix: str
    needs: tuple[str, ...] = ()


class ConfigError(Exception):
    """The configuration is invalid; `problems` holds all reasons."""

    def __init__(self, problems: Sequence[Problem], subject: str = "the configuration") -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{subject} has {count} problem{'s' if count > 1 else ''}:"
        super().__init__("\n\n  ".join([head, *(str(p).replace("\n", "\n  ") for p in self.problems)]))


def violation(limit: str, fix: str) -> PydanticCustomError:
    """An error for validators: `limit` says what is allowed, `fix` what to do."""
    # Pydantic formats its message template, so the text is passed as a value: it may contain braces.
    return PydanticCustomError("platform", "{limit}", {"limit": limit, "fix": fix})


_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_KEY = "[key]"
"""With this, pydantic marks that the name of an entry is wrong, not its value."""


def entry_of(location: Location) -> Location:
    """The location of an entry, whether its name or its value is wrong."""
    return location[:-1] if location and location[-1] == _KEY else location


def format_location(location: Location) -> str:
    """A location as a path such as `services.router.models[0].name` or `labels["a.example/b"]`."""
    text = ""
    for part in location:
        if isinstance(part, str) and _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{part}]" if isinstance(part, int) else f"[{json.dumps(part)}]"
    return text or "(the whole configuration)"


def did_you_mean(word: str, words: Iterable[str], otherwise: str) -> str:
    """A fix that names the nearest of the words; `otherwise` where none is near."""
    near = difflib.get_close_matches(word, list(words), 1)
    return f'did you mean "{near[0]}"?' if near else otherwise


def _shown(value: object) -> str:
    if isinstance(value, dict | list):
        return "(an object)" if isinstance(value, dict) else "(a list)"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + '..."'


def _model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model class that holds the field at a location, or None."""
    current: type[BaseModel] | None = model
    named = False
    for part in location[:-1]:
        if current is None or isinstance(part, int):
            continue
        if named:  # the name of an entry
            named = False
            continue
        field = next((f for n, f in current.model_fields.items() if part in (n, f.alias)), None)
        named = field is not None and typing.get_origin(field.annotation) is dict
        current = _inner_model(field.annotation) if field else None
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        if found := _inner_model(part):
            return found
    return None


def _field_names(model: type[BaseModel] | None, *, python: bool = False) -> list[str]:
    fields = model.model_fields.items() if model else ()
    return [n if python else f.alias or n for n, f in fields if not f.exclude]


def _in_python(model: type[BaseModel] | None, name: str | int) -> str | int:
    """The name in Python of a field."""
    fields = model.model_fields.items() if model else ()
    return next((own for own, field in fields if name in (own, field.alias)), name)


def _as_written(location: Location, data: object) -> Location:
    """A location with the names that the data has: fields can be named as in YAML or as in Python."""
    found: list[str | int] = []
    at: Any = data
    for part in location:
        entries = cast("dict[Any, Any]", at) if isinstance(at, dict) else {}
        key = next((one for one in entries if part in (one, to_camel(str(one)))), part)
        found.append(key)
        entry = cast("list[Any]", at)[key] if isinstance(at, list) and isinstance(key, int) else None
        at = entries.get(key, entry)
    return tuple(found)


_BOUNDS = {
    "greater_than_equal": ("at least {ge}", "raise it to {ge} or more"),
    "greater_than": ("more than {gt}", "set a value above {gt}"),
    "less_than_equal": ("at most {le}", "lower it to {le} or less"),
    "less_than": ("less than {lt}", "set a value below {lt}"),
    "too_short": ("at least {min_length} entries", "add entries"),
    "too_long": ("at most {max_length} entries", "remove entries"),
    "string_too_short": ("at least {min_length} characters", "make it longer"),
    "string_too_long": ("at most {max_length} characters", "shorten it"),
}
_TYPES = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a string",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}


def describe(
    error: ErrorDetails, model: type[BaseModel], data: object = None, at: str = "", *, python: bool = True
) -> Problem:
    """Convert one of pydantic's errors to a Problem. `model` is the class that was validated.

    `data` and `at` are the inputs of a program and their name. The problem then uses Python's field names; without
    `python`, those of other languages.
    """
    location, python = entry_of(error["loc"]), python and data is not None
    if error["type"] == "missing" and python:
        location = (*location[:-1], _in_python(_model_at(model, location), location[-1]))
    place = location if data is None else _as_written(location, data)
    path = format_location((at, *place) if at else place)
    kind = error["type"]
    context = error.get("ctx") or {}
    value = _shown(error["input"])
    if kind == "platform":
        return Problem(path, value, str(context["limit"]), str(context["fix"]))
    if kind == "missing":
        return Problem(path, "(missing)", "required", f"add `{location[-1]}`")
    if kind == "extra_forbidden":
        names = _field_names(_model_at(model, location), python=python)
        near = difflib.get_close_matches(str(location[-1]), names)
        fix = did_you_mean(str(location[-1]), names, "remove it")
        return Problem(path, value, f"one of {', '.join(dict.fromkeys((*near, *sorted(names))))}", fix)
    if kind in _BOUNDS:
        limit, fix = _BOUNDS[kind]
        return Problem(path, value, limit.format(**context), fix.format(**context))
    if kind == "enum":
        options = str(context["expected"])
        words = options.replace("'", "").replace(" or ", ", ").split(", ")
        return Problem(path, value, f"one of {options}", did_you_mean(str(error["input"]), words, "choose one of them"))
    if kind == "string_pattern_mismatch":
        return Problem(path, value, f"must match {context['pattern']}", "correct the spelling")
    if kind in _TYPES:
        return Problem(path, value, f"must be {_TYPES[kind]}", f"write {_TYPES[kind]}")
    return Problem(path, value, error["msg"], "correct the value")
