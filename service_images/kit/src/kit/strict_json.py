"""Strict JSON that all later readers accept: PostgreSQL, Kafka consumers, NATS and the audit log.

The standard library's parser accepts texts that others refuse or interpret differently: duplicate keys, NaN, numbers
beyond the range of databases, U+0000, unpaired surrogates, any depth. Here, each of these is an error with its path.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import msgspec

from kit.limits import JSON_DEPTH, JSON_INTEGER, JSON_NUMBER

_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
"""Escapes that can encode U+0000 or an unpaired surrogate. Both are possible as escapes only: the parser refuses raw
control characters, and UTF-8 has no surrogates."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SHOWN = 40
_encode = msgspec.json.Encoder().encode


class BadJson(ValueError):
    """A text is not valid. `path` is the position, such as `a.0.b`; empty if unknown."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path, self.message = path, message


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise BadJson(f"the key {_short(twice)} occurs twice")
    return found


def _constant(text: str) -> Any:
    raise BadJson(f"{text} is not JSON")


def _integer(text: str) -> int:
    if len(text) > JSON_INTEGER.most + (text[0] == "-"):
        raise BadJson(f"the integer {_short(text)} has more than {JSON_INTEGER.most} digits")
    return int(text)


def _float(text: str) -> float:
    if len(text) > JSON_NUMBER.most:
        raise BadJson(f"the number {_short(text)} has more than {JSON_NUMBER.most} digits")
    found = float(text)
    if math.isinf(found):
        raise BadJson(f"the number {_short(text)} is too large")
    return found


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float, strict=True
)


def loads(content: bytes | str) -> Any:
    """Parse a JSON text. Raises BadJson."""
    try:
        text = content if isinstance(content, str) else content.decode()
    except UnicodeDecodeError as error:
        raise BadJson(f"it is not UTF-8: {error.reason} at byte {error.start}") from None
    if text.startswith("\ufeff"):
        raise BadJson("it begins with a byte order mark; RFC 8259 has none")
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise BadJson(f"it is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise BadJson(_too_deep()) from None
    if text.count("[") + text.count("{") > JSON_DEPTH.most or _SUSPECT.search(text):
        check(value)
    return value


def check(value: Any) -> Any:
    """Check a value that was not parsed by `loads`, and return it. Raises BadJson if `loads` would refuse it."""
    waiting: list[tuple[str, int, Any]] = [("", 0, value)]
    while waiting:
        path, depth, item = waiting.pop()
        if isinstance(item, str):
            _check_text(item, path)
        elif isinstance(item, bool):
            continue
        elif isinstance(item, int):
            if abs(item) >= 10**JSON_INTEGER.most:
                raise BadJson(f"an integer has more than {JSON_INTEGER.most} digits", path)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise BadJson("a number is too large, or not a number", path)
        elif isinstance(item, (dict, list, tuple)):
            if depth >= JSON_DEPTH.most:
                raise BadJson(_too_deep(), path)
            if isinstance(item, dict):
                for name in item:
                    _check_text(name, f"{path} (a key)".strip())
                parts = item.items()
            else:
                parts = enumerate(item)
            waiting += [(f"{path}.{name}" if path else str(name), depth + 1, part) for name, part in parts]
    return value


def _check_text(text: str, path: str) -> None:
    if "\0" in text:
        raise BadJson("a text contains the character U+0000", path)
    if not text.isascii() and _SURROGATE.search(text):
        raise BadJson("a text contains an unpaired surrogate", path)


def dumps(value: Any) -> bytes:
    """Compact JSON in UTF-8. Raises BadJson if the value is not JSON."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadJson(f"it cannot be written as JSON: {error}") from None


def size(value: Any) -> int:
    """Size of a value as compact JSON in bytes, for comparison with limits. Raises BadJson."""
    return len(dumps(value))


def _too_deep() -> str:
    return f"it is nested deeper than {JSON_DEPTH.most} levels"


def _short(text: str) -> str:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return json.dumps(shown)
