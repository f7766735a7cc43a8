"""Checks untrusted JSON Schemas: allowed keywords, size, and references."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import re2

MAX_BYTES = 64 * 1024
"""Most bytes of a schema as JSON."""
MAX_DEPTH = 32
"""Most nesting levels of a schema."""
MAX_SUBSCHEMAS = 1000
MAX_PATTERNS = 50
MAX_PATTERN = 1000
"""Most characters of a pattern."""
MAX_PATTERN_MEMORY = 2**20
"""Most bytes of a compiled RE2 pattern."""
MAX_PROBLEMS = 10
"""Most reported problems of one value."""
_DIALECTS = ("json-schema.org/draft/2020-12/schema", "json-schema.org/draft/2019-09/schema", "json-schema.org/draft-07/schema")  # fmt: skip # noqa: E501
_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_IN_PLACE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "$ref")
"""Keywords whose subschemas apply to the same value."""


@dataclass(frozen=True)
class Problem:
    """A problem and its path, such as `properties.age.minimum`; an empty path means the whole schema or value."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SchemaRefused(ValueError):
    """A schema is refused, with all reasons."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems[:MAX_PROBLEMS])))
        self.problems = problems


# --- what a schema may be -------------------------------------------------------------------------


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 60


def shown(value: Any) -> str:
    """A value for a message, shortened if it is long."""
    return _SHORT.repr(value)


def _is(what: str, fits: Callable[[Any], bool]) -> Callable[[Any], str]:
    return lambda value: "" if fits(value) else f"{shown(value)} is not {what}"


def number(value: Any) -> bool:
    """Whether a value is a JSON number. In Python, true and false are numbers, too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value) and len(set(value)) == len(value)


def _type(value: Any) -> str:
    wanted = value if isinstance(value, list) and value else [value]
    wrong = [name for name in wanted if not isinstance(name, str) or name not in _TYPES]
    return f"{shown(wrong[0])} is not a type; types are {', '.join(_TYPES)}" if wrong else ""


def _dialect(value: Any) -> str:
    known = isinstance(value, str) and value.partition("://")[2].rstrip("#") in _DIALECTS
    return "" if known else f"{shown(value)} is not known; write https://{_DIALECTS[0]}, or leave it out"


_COUNT = _is("a whole number from 0", lambda v: number(v) and v >= 0 and v == math.floor(v))
_NUMBER = _is("a number", number)
_TEXT = _is("a text", lambda v: isinstance(v, str))
_BOOLEAN = _is("true or false", lambda v: isinstance(v, bool))
_NAMES = _is("a list of different texts", _texts)
_LIST = _is("a list with at least one entry", lambda v: isinstance(v, list) and bool(v))
_ANY: Callable[[Any], str] = lambda _: ""  # noqa: E731

VALUES: dict[str, Callable[[Any], str]] = {
    "type": _type,
    "enum": _LIST,
    "const": _ANY,
    "required": _NAMES,
    "dependentRequired": _is(
        "an object of lists of texts", lambda v: isinstance(v, dict) and all(map(_texts, v.values()))
    ),
    **dict.fromkeys(("minProperties", "maxProperties", "minItems", "maxItems"), _COUNT),
    **dict.fromkeys(("minContains", "maxContains", "minLength", "maxLength"), _COUNT),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
    "multipleOf": _is("a number above 0", lambda v: number(v) and v > 0),
    "uniqueItems": _BOOLEAN,
    # Annotations: for readers only, without effect on validation.
    **dict.fromkeys(("title", "description", "$comment", "format", "contentEncoding", "contentMediaType"), _TEXT),
    **dict.fromkeys(("deprecated", "readOnly", "writeOnly"), _BOOLEAN),
    "default": _ANY,
    "examples": _is("a list", lambda v: isinstance(v, list)),
}
"""Check of the value, by keyword without subschemas."""
_ONE = frozenset(
    ("additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else", "contentSchema")
)
"""Keywords with one subschema."""
_MANY = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
"""Keywords with a list of subschemas."""
_NAMED = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
"""Keywords with subschemas by name."""
KEYWORDS = frozenset(("$schema", "$ref", "pattern", *VALUES, *_ONE, *_MANY, *_NAMED))
"""All allowed keywords."""
_INSTEAD = {
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
    "$dynamicRef": "use $ref to one of the schema's own $defs",
    "$recursiveRef": 'use {"$ref": "#"}',
    "dependencies": "use dependentRequired or dependentSchemas",
    "additionalItems": "use items with prefixItems",
    "nullable": 'use {"type": [..., "null"]}',
}


def _regular_expression(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem, options.log_errors = MAX_PATTERN_MEMORY, False
    return re2.compile(pattern, options)


class Reader:
    """Traverses a schema once and collects all problems."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.problems: list[Problem] = []
        self.patterns: dict[str, Any] = {}
        self.targets: dict[str, Any] = {}
        """Target of each reference."""
        self._schema, self._count = schema, 0
        self._again: dict[int, list[Any]] = {}
        """Subschemas that apply to the same value, by schema ID."""

    def refuse(self, path: str, message: str) -> None:
        """Record a problem."""
        self.problems.append(Problem(path, message))

    def read(self, schema: Any, path: str) -> None:
        """Read a schema with its subschemas."""
        self._count += 1
        if isinstance(schema, bool):
            return
        if not isinstance(schema, dict):
            self.refuse(path, f"{shown(schema)} is not a schema; write an object, true or false")
            return
        again = self._again.setdefault(id(schema), [])
        for keyword, value in schema.items():
            here = f"{path}.{keyword}" if path else keyword
            found: list[Any] = []
            if keyword == "$schema":
                self._root(here, path, value)
            elif keyword == "$ref":
                found = self._reference(here, value)
            elif keyword == "pattern":
                self._pattern(here, value)
            elif keyword in VALUES:
                if wrong := VALUES[keyword](value):
                    self.refuse(here, wrong)
            elif keyword in _ONE:
                found = [value]
                self.read(value, here)
            elif keyword in _MANY:
                found = self._list(here, value)
            elif keyword in _NAMED:
                found = self._named(here, keyword, value)
            else:
                instead = _INSTEAD.get(keyword, f"allowed are {', '.join(sorted(KEYWORDS))}")
                self.refuse(here, f"the keyword {shown(keyword)} is not allowed; {instead}")
            if keyword in _IN_PLACE:
                again += [item for item in found if isinstance(item, dict)]

    def _root(self, here: str, path: str, value: Any) -> None:
        if path:
            self.refuse(here, "it is allowed only at the top of the schema; leave it out here")
        elif wrong := _dialect(value):
            self.refuse(here, wrong)

    def _list(self, here: str, value: Any) -> list[Any]:
        if wrong := _LIST(value):
            self.refuse(here, wrong)
            return []
        for number, item in enumerate(value):
            self.read(item, f"{here}.{number}")
        return value

    def _named(self, here: str, keyword: str, value: Any) -> list[Any]:
        if not isinstance(value, dict):
            self.refuse(here, f"{shown(value)} is not an object of schemas")
            return []
        for name, item in value.items():
            if keyword == "patternProperties":
                self._pattern(here, name)
            self.read(item, f"{here}.{name}")
        return list(value.values())

    def _reference(self, here: str, value: Any) -> list[Any]:
        place, _, name = value.removeprefix("#/").partition("/") if isinstance(value, str) else ("", "", "")
        if value == "#":
            target: Any = self._schema
        elif place in ("$defs", "definitions") and value.startswith("#/"):
            named = self._schema.get(place)
            target = named.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(named, dict) else None
        else:
            self.refuse(here, f'{shown(value)} refers to something outside the schema; write "#" or "#/$defs/NAME"')
            return []
        if target is None:
            self.refuse(here, f"{shown(value)} refers to a missing definition; add it")
            return []
        self.targets[value] = target
        return [target]

    def _pattern(self, here: str, value: Any) -> None:
        if wrong := _TEXT(value):
            self.refuse(here, wrong)
        elif len(value) > MAX_PATTERN:
            self.refuse(here, f"the pattern has {len(value)} characters; at most {MAX_PATTERN} are possible")
        elif value not in self.patterns:
            try:
                self.patterns[value] = _regular_expression(value)
            except re2.error as error:
                reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
                self.refuse(here, f"{shown(value)} is not a valid RE2 pattern: {reason}")

    def finish(self) -> None:
        """Check properties of the whole schema."""
        if self._count > MAX_SUBSCHEMAS:
            self.refuse("", f"the schema holds {self._count} schemas; at most {MAX_SUBSCHEMAS} are possible")
        if len(self.patterns) > MAX_PATTERNS:
            self.refuse("", f"the schema holds {len(self.patterns)} patterns; at most {MAX_PATTERNS} are possible")
        if not self.problems and self._circle():
            self.refuse("", "a reference refers to itself for the same value, which would never end; break the cycle")

    def _circle(self) -> bool:
        """Whether a schema applies itself to the same value again, which would never end."""
        done, path = set[int](), set[int]()
        waiting: list[tuple[int, bool]] = [(name, False) for name in self._again]
        while waiting:
            name, left = waiting.pop()
            if left:
                path.discard(name)
                done.add(name)
            elif name in path:
                return True
            elif name not in done:
                path.add(name)
                waiting.append((name, True))
                for item in self._again.get(name, ()):
                    if id(item) in path:
                        return True
                    waiting.append((id(item), False))
        return False


def measured(value: Any, max_depth: int) -> tuple[dict[int, int], str]:
    """(number of characters of each list and object of a JSON value by ID, problem or empty text)."""
    sizes: dict[int, int] = {}
    order: list[Any] = []
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, dict | list):
            if depth > max_depth:
                return sizes, f"it is nested more than {max_depth} levels deep"
            order.append(item)
            waiting += [(part, depth + 1) for part in (item.values() if isinstance(item, dict) else item)]
            if isinstance(item, dict):
                waiting += [(name, depth) for name in item]
        elif isinstance(item, str):
            if not _encodable(item):
                return sizes, "a text contains an unpaired surrogate"
        elif isinstance(item, float) and not math.isfinite(item):
            return sizes, "a number is too large"
        elif not isinstance(item, int | float | None):
            return sizes, f"{type(item).__name__} is not JSON"
    for item in reversed(order):
        parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
        sizes[id(item)] = 2 + sum(size(part, sizes) for part in parts)
    return sizes, ""


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def size(value: Any, sizes: Mapping[int, int]) -> int:
    """Number of characters of a value, from the result of `measured`."""
    if isinstance(value, str):
        return 1 + len(value)
    if isinstance(value, dict | list):
        return sizes.get(id(value), 1)
    return 1 + (value.bit_length() // 3 if isinstance(value, int) else 8)
