"""Untrusted JSON Schemas: checked on arrival, and evaluated within limits.

A schema may use the keywords of draft 2020-12 that `schema_reading` lists, and references to its own `$defs`. Nothing
is fetched: other references are refused, and the registry is empty. Patterns use RE2, which matches in linear time.
Evaluation has a budget, so that neither large values nor multiplying references can block a process. `format` is an
annotation, as in the draft.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import create
from referencing import Registry

from kit.schema_reading import (
    KEYWORDS,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_PROBLEMS,
    VALUES,
    Problem,
    Reader,
    SchemaRefused,
    measured,
    number,
    shown,
    size,
)

__all__ = ["Problem", "Schema", "SchemaRefused", "read"]
MAX_STEPS = 100_000
"""Most keyword evaluations for one value: about 0.5 s at 5 us per keyword on one core."""
MAX_NESTING = 60
"""Most nested keyword evaluations. Each takes five of Python's one thousand stack frames."""
_STEP_CHARACTERS = 256
"""Number of characters that count as one step, since comparing and quoting take time by size."""
MAX_VALUE_DEPTH = 64
"""Most nesting levels of a checked value."""


class _TooMuch(Exception):
    """The budget is exhausted."""


@dataclass
class _Evaluation:
    """Evaluation of one value, with its budget."""

    schema: Schema
    sizes: dict[int, int]
    steps: int = MAX_STEPS
    nesting: int = 0

    def take(self, *values: Any) -> None:
        self.steps -= 1 + sum(size(value, self.sizes) for value in values) // _STEP_CHARACTERS
        if self.steps < 0:
            raise _TooMuch(
                f"checking it takes more than {MAX_STEPS} steps; send a smaller value, or simplify the schema"
            )


_EVALUATION: ContextVar[_Evaluation] = ContextVar("evaluation")


def _bounded(keyword: Callable[..., Any], *, quotes: bool) -> Callable[..., Iterator[ValidationError]]:
    """Wrap a keyword with the budget. `quotes`: its value is compared or quoted, so its size counts."""

    def bounded(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        evaluation = _EVALUATION.get()
        evaluation.take(instance, *([value] if quotes else []))
        if evaluation.nesting >= MAX_NESTING:
            raise _TooMuch("the schema and the value are nested too deep; flatten them")
        evaluation.nesting += 1
        try:
            yield from keyword(validator, value, instance, schema) or ()
        finally:
            evaluation.nesting -= 1

    return bounded


def _found(pattern: str, text: str) -> bool:
    return _EVALUATION.get().schema.patterns[pattern].search(text) is not None


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _found(pattern, instance):
        yield ValidationError(f"{shown(instance)} does not match {pattern!r}")


def _pattern_properties(validator: Any, wanted: dict[str, Any], instance: Any, _: Any) -> Iterator[ValidationError]:
    if isinstance(instance, dict):
        for pattern, schema in wanted.items():
            for name, value in instance.items():
                _EVALUATION.get().take(name)
                if _found(pattern, name):
                    yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional(validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", ())
    for name, value in instance.items():
        _EVALUATION.get().take(name)
        if name in known or any(_found(pattern, name) for pattern in patterns):
            continue
        if wanted is False:
            yield ValidationError(f"{shown(name)} is not a property of the schema")
        else:
            yield from validator.descend(value, wanted, path=name)


def _reference(validator: Any, reference: str, instance: Any, _: Any) -> Iterator[ValidationError]:
    yield from validator.descend(instance, _EVALUATION.get().schema.targets[reference])


def _unique(_: Any, wanted: bool, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Uniqueness in linear time: equal entries have the same key. Keys are texts, whose hashes cannot be predicted."""
    if wanted and isinstance(instance, list):
        _EVALUATION.get().steps -= len(instance)
        if len({_key(item) for item in instance}) < len(instance):
            yield ValidationError("it has two entries that are equal")


def _key(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_key, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_key(name)}:{_key(value[name])}' for name in sorted(value))}}}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 1.0 and 1 are equal in JSON
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _multiple(_: Any, wanted: float, instance: Any, __: Any) -> Iterator[ValidationError]:
    """Multiples in decimal arithmetic: 0.3 is a multiple of 0.1."""
    if number(instance) and (Fraction(repr(instance)) / Fraction(repr(wanted))).denominator != 1:
        yield ValidationError(f"{shown(instance)} is not a multiple of {wanted!r}")


_OWN: dict[str, Callable[..., Any]] = {
    "$ref": _reference,
    "additionalProperties": _additional,
    "multipleOf": _multiple,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "uniqueItems": _unique,
}
_KEYWORDS = {**Draft202012Validator.VALIDATORS, **_OWN}
_Validator: Any = create(
    Draft202012Validator.META_SCHEMA,
    {name: _bounded(keyword, quotes=name in VALUES) for name, keyword in _KEYWORDS.items() if name in KEYWORDS},
    type_checker=Draft202012Validator.TYPE_CHECKER,
)


@dataclass(frozen=True)
class Schema:
    """A valid schema."""

    content: dict[str, Any]
    patterns: dict[str, Any]
    targets: dict[str, Any] = field(repr=False)
    _sizes: dict[int, int] = field(repr=False)

    def problems(self, value: Any) -> list[Problem]:
        """The first problems of a JSON value, including an exhausted budget. Never raises."""
        sizes, wrong = measured(value, MAX_VALUE_DEPTH)
        if wrong:
            return [Problem("", wrong)]
        token = _EVALUATION.set(_Evaluation(self, self._sizes | sizes))
        try:
            found = islice(_Validator(self.content, registry=Registry()).iter_errors(value), MAX_PROBLEMS)
            return [Problem(".".join(map(str, e.absolute_path)), _cut(e.message)) for e in found]
        except (_TooMuch, RecursionError) as error:
            reason = str(error) if isinstance(error, _TooMuch) else "the schema and the value are nested too deep"
            return [Problem("", reason)]
        finally:
            _EVALUATION.reset(token)


def _cut(message: str) -> str:
    return message if len(message) <= 300 else message[:297] + "..."


def read(schema: Any) -> Schema:
    """Prepare a schema for use. Raises SchemaRefused with all its problems."""
    if not isinstance(schema, dict):
        raise SchemaRefused([Problem("", f"{shown(schema)} is not a schema; write an object")])
    sizes, wrong = measured(schema, MAX_DEPTH)
    if wrong:
        raise SchemaRefused([Problem("", wrong)])
    length = len(json.dumps(schema, ensure_ascii=False, separators=(",", ":")).encode())
    if length > MAX_BYTES:
        raise SchemaRefused([Problem("", f"the schema has {length} bytes; at most {MAX_BYTES} are possible")])
    reader = Reader(schema)
    reader.read(schema, "")
    reader.finish()
    if reader.problems:
        raise SchemaRefused(reader.problems)
    # With "$schema", jsonschema would choose another validator, without limits.
    content = {name: value for name, value in schema.items() if name != "$schema"}
    targets = {name: content if target is schema else target for name, target in reader.targets.items()}
    return Schema(content, reader.patterns, targets, sizes)
