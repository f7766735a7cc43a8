"""Checks a resource's inputs against the argument types of the Pulumi SDK that the program imports."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pulumi
from pulumi import _types as pulumi_types

from local.providers.wire import UNKNOWN, Path, Secret, format_path


@functools.cache
def resource_type(token: str) -> type | None:
    """The SDK's resource class of a token such as "kubernetes:apps/v1:Deployment"."""
    package, module, name = token.split(":")
    groups = [] if module.startswith("index") else module.split("/")
    for depth in range(len(groups), -1, -1):  # "aws:ec2/launchTemplate:LaunchTemplate" lives in pulumi_aws.ec2
        path = f"pulumi_{package}" + "".join(f".{_module(part)}" for part in groups[:depth])
        try:
            found = getattr(importlib.import_module(path), name, None)
        except ImportError:
            continue
        return found if isinstance(found, type) else None
    return None


@functools.cache
def arguments_type(token: str) -> type | None:
    """The SDK's argument class of a resource token such as "kubernetes:apps/v1:Deployment"."""
    resource = resource_type(token)
    arguments = importlib.import_module(resource.__module__) if resource else None
    name = token.split(":")[2]
    for suffix in ("InitArgs", "Args"):
        found = getattr(arguments, f"{name}{suffix}", None)
        if isinstance(found, type) and pulumi_types.is_input_type(found):
            return found
    return None


def _module(part: str) -> str:
    """The Python module of an API group: "rbac.authorization.k8s.io" -> "rbac"."""
    return part.split(".")[0].replace("-", "_").lower()


@functools.cache
def _fields(cls: type) -> dict[str, Any]:
    """Types of a class's inputs by Pulumi name, without the wrappers Input and Optional."""
    hints = pulumi_types.input_type_types(cls)
    return dict(hints)


def problems(value: Mapping[str, Any], cls: type, path: Path = ()) -> Iterator[tuple[str, str]]:
    """(path, problem) of each field that is unknown to the SDK or has another type."""
    fields = _fields(cls)
    for key, item in value.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            yield format_path((*path, key)), f"unknown field{hint}"
        else:
            yield from _value_problems(item, fields[key], (*path, key))


def _alternatives(hint: Any) -> list[Any]:
    """Allowed types of a value, without the wrappers Input, Output, Optional and Union."""
    if isinstance(hint, str | typing.ForwardRef) or hint is Any:
        return [Any]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [leaf for part in typing.get_args(hint) for leaf in _alternatives(part)]
    if inspect.isclass(origin) and issubclass(origin, pulumi.Output):
        return _alternatives(typing.get_args(hint)[0])
    if origin is not None and getattr(origin, "__name__", "") == "Awaitable":
        return []
    return [hint]


def _value_problems(value: Any, hint: Any, path: Path) -> Iterator[tuple[str, str]]:
    value = value.value if isinstance(value, Secret) else value
    if value is None or value is UNKNOWN:
        return
    options = [o for o in _alternatives(hint) if o is not type(None)]
    if Any in options or not options:
        return
    if isinstance(value, Mapping):
        yield from _mapping_problems(value, options, path)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from _sequence_problems(value, options, path)
    elif not any(_scalar_fits(value, option) for option in options):
        wanted = " or ".join(sorted({_name(o) for o in options}))
        yield format_path(path), f"expected {wanted}, got {type(value).__name__} {value!r}"


def _mapping_problems(value: Mapping[str, Any], options: list[Any], path: Path) -> Iterator[tuple[str, str]]:
    classes = [o for o in options if isinstance(o, type) and pulumi_types.is_input_type(o)]
    maps = [o for o in options if typing.get_origin(o) in (dict, Mapping) or getattr(o, "_name", "") == "Mapping"]
    loose = [o for o in options if o is dict or o is object]
    typed_dicts = [o for o in options if isinstance(o, type) and typing.is_typeddict(o)]
    if classes:
        yield from problems(value, classes[0], path)
    elif maps:
        args = typing.get_args(maps[0])
        for key, item in value.items():
            if len(args) == 2:
                yield from _value_problems(item, args[1], (*path, key))
    elif not loose and not typed_dicts and not any("Mapping" in str(o) for o in options):
        wanted = " or ".join(sorted({_name(o) for o in options}))
        yield format_path(path), f"expected {wanted}, got an object"


def _sequence_problems(value: Sequence[Any], options: list[Any], path: Path) -> Iterator[tuple[str, str]]:
    lists = [o for o in options if typing.get_origin(o) in (list, Sequence) or "Sequence" in str(o)]
    if not lists:
        wanted = " or ".join(sorted({_name(o) for o in options}))
        yield format_path(path), f"expected {wanted}, got a list"
        return
    args = typing.get_args(lists[0])
    for index, item in enumerate(value):
        if args:
            yield from _value_problems(item, args[0], (*path, index))


def _scalar_fits(value: Any, option: Any) -> bool:
    if option is str:
        return isinstance(value, str)
    if option is bool:
        return isinstance(value, bool)
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if option is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(option, type) and issubclass(option, str):  # StrEnum
        return isinstance(value, str)
    return typing.get_origin(option) is typing.Literal and value in typing.get_args(option)


def _name(option: Any) -> str:
    if isinstance(option, type):
        return {"str": "a string", "int": "a whole number", "bool": "true or false", "float": "a number"}.get(
            option.__name__, "an object"
        )
    text = str(option)
    return "a list" if "Sequence" in text or "list" in text.lower() else "an object"
