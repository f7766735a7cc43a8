"""Converts property values between the engine's wire format and Python.

On the wire, every number is a double, a secret is an object with a signature, and an unknown value is a sentinel
string. In Python, a whole number is an int, a secret is a `Secret`, and an unknown value is `UNKNOWN`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import struct_pb2

_SIGNATURE = "4dabf18193072939515e22adb298388d"
_SECRET = "1b47061264138c4ac30d75fd1eb44270"
_OUTPUT = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
_RESOURCE = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWN_TEXT = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's sentinel for an unknown value."""
_EXACT = 2**53
"""Largest exact whole number in a double. Larger ones stay floats."""

Path = tuple[str | int, ...]


class _Unknown:
    def __repr__(self) -> str:
        return "<unknown>"

    def __deepcopy__(self, _: object) -> _Unknown:
        return self


UNKNOWN = _Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that is encrypted in the state and hidden in output."""

    value: Any


def decode_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Decode a Struct to a dict."""
    return {key: decode(value) for key, value in struct.fields.items()}


def decode(value: struct_pb2.Value) -> Any:
    """Decode one value."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return UNKNOWN if value.string_value == UNKNOWN_TEXT else value.string_value
        case "bool_value":
            return value.bool_value
        case "list_value":
            return [decode(item) for item in value.list_value.values]
        case "struct_value":
            return _decode_object({k: decode(v) for k, v in value.struct_value.fields.items()})
        case _:
            return None


def _decode_object(fields: dict[str, Any]) -> Any:
    match fields.get(_SIGNATURE):
        case None:
            return fields
        case signature if signature == _SECRET:
            return Secret(fields.get("value"))
        case signature if signature == _OUTPUT:
            value = fields.get("value", UNKNOWN)
            return Secret(value) if fields.get("secret") else value
        case signature if signature == _RESOURCE:
            return fields.get("id", fields.get("urn"))
        case _:
            return fields


def encode_struct(value: dict[str, Any]) -> struct_pb2.Struct:
    """Encode a dict as a Struct."""
    struct = struct_pb2.Struct()
    for key, item in value.items():
        _encode_into(struct.fields[key], item)
    return struct


def _encode_into(target: struct_pb2.Value, value: Any) -> None:
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif value is UNKNOWN:
        target.string_value = UNKNOWN_TEXT
    elif isinstance(value, Secret):
        target.struct_value.fields[_SIGNATURE].string_value = _SECRET
        _encode_into(target.struct_value.fields["value"], value.value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            _encode_into(target.list_value.values.add(), item)
    elif isinstance(value, dict):
        target.struct_value.SetInParent()
        for key, item in value.items():
            _encode_into(target.struct_value.fields[str(key)], item)
    else:
        target.string_value = str(value)


def transform(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply `change` to every leaf and secret, innermost first."""
    if isinstance(value, dict):
        return {k: transform(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [transform(v, change) for v in value]
    if isinstance(value, Secret):
        return change(Secret(transform(value.value, change)))
    return change(value)


def reveal(value: Any) -> Any:
    """The value without secret marks."""
    return transform(value, lambda v: v.value if isinstance(v, Secret) else v)


def has_unknown(value: Any) -> bool:
    """Whether the value contains an unknown value."""
    if isinstance(value, dict):
        return any(has_unknown(v) for v in value.values())
    if isinstance(value, list):
        return any(has_unknown(v) for v in value)
    if isinstance(value, Secret):
        return has_unknown(value.value)
    return value is UNKNOWN


def secret_paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """Paths of all secrets in a value."""
    if isinstance(value, Secret):
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from secret_paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from secret_paths(item, (*path, index))


def conceal(value: Any, paths: set[Path], path: Path = ()) -> Any:
    """Mark the values at `paths` as secret."""
    if path in paths:
        return value if isinstance(value, Secret) else Secret(value)
    if isinstance(value, dict):
        return {k: conceal(v, paths, (*path, k)) for k, v in value.items()}
    if isinstance(value, list):
        return [conceal(v, paths, (*path, i)) for i, v in enumerate(value)]
    return value


def format_path(path: Path) -> str:
    """A path in Pulumi's notation: `spec.ports[0].port`, `data["a.b"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "").replace("-", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text
