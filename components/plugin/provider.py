"""The provider behind the plugin: makes components from the inputs of a program in any language."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, cast, get_args, is_typeddict

import pulumi
from pulumi.errors import InputPropertiesError
from pulumi.provider.experimental.analyzer import (
    is_dict,
    is_input,
    is_list,
    is_not_required,
    is_optional,
    is_output,
    unwrap_input,
    unwrap_not_required,
    unwrap_optional,
    unwrap_output,
)
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.experimental.schema import generate_schema
from pulumi.provider.experimental.util import camel_case
from pulumi.provider.provider import ConstructResult, Provider

from components.config.problems import ConfigError
from components.inputs import Foreign
from components.plugin.analyzer import SchemaAnalyzer, fields_of

_SUFFIX = "Args"
_WRAPPERS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (is_not_required, unwrap_not_required),
    (is_input, unwrap_input),
    (is_output, unwrap_output),
    (is_optional, unwrap_optional),
)


class LibraryProvider(ComponentProvider):
    """Offers components. Their own models check the inputs, so a mistake reads as in a Python program."""

    def __init__(self, components: Sequence[type[pulumi.ComponentResource]], name: str, version: str) -> None:
        # Pulumi's constructor has an analyzer of its own.
        self._name, self.analyzer = name, SchemaAnalyzer(name)
        found = self.analyzer.analyze([*components])
        self._components = {component.__name__: component for component in components}
        self._component_defs, self._type_defs = found["component_definitions"], found["type_definitions"]
        self._external_enum_types, self._dependencies = found["external_enum_types"], []
        schema = generate_schema(name, version, None, self._component_defs, self._type_defs, [])
        Provider.__init__(self, version, json.dumps(_tidied(schema.to_json())))

    def construct(
        self, name: str, resource_type: str, inputs: Any, options: pulumi.ResourceOptions | None = None
    ) -> ConstructResult:
        """Make a component. Raises InputPropertiesError with all mistakes of the inputs."""
        self.validate_resource_type(self._name, resource_type)
        component: Any = self._components[resource_type.rsplit(":", 1)[-1]]
        try:
            made = component(name, Foreign(_whole(inputs)), options)
        except ConfigError as error:
            raise InputPropertiesError(
                str(error).splitlines()[0],
                [
                    {"property_path": one.path, "reason": f"{one.value}; limit: {one.limit}; fix: {one.fix}"}
                    for one in error.problems
                ],
            ) from None
        state = {
            camel_case(one): in_schema(getattr(made, one, None), kind) for one, kind in fields_of(component).items()
        }
        return ConstructResult(made.urn, {one: value for one, value in state.items() if value is not None})


def _whole(value: Any) -> Any:
    """The inputs with whole numbers as such: the engine's protocol has floating-point numbers only."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in cast("dict[str, Any]", value).items()}
    return [_whole(one) for one in cast("list[Any]", value)] if isinstance(value, list) else value


def bare(kind: Any) -> tuple[Any, bool, bool]:
    """A type without wrappers, whether a value may be left out, and whether it may be known later."""
    optional = later = False
    while found := next(((test, unwrap) for test, unwrap in _WRAPPERS if test(kind)), None):
        optional |= found[0] in (is_not_required, is_optional)
        later |= found[0] in (is_input, is_output)
        kind = found[1](kind)
    return kind, optional, later


def in_schema(value: Any, kind: Any) -> Any:
    """A value of this type, with the names of the schema."""
    if value is None:
        return None
    for is_wrapper, unwrap in _WRAPPERS:
        if is_wrapper(kind):
            return in_schema(value, unwrap(kind))
    if isinstance(value, pulumi.Output):
        return cast("pulumi.Output[Any]", value).apply(lambda known: in_schema(known, kind))
    if is_typeddict(kind):
        fields = fields_of(kind)
        return {camel_case(name): in_schema(one, fields[name]) for name, one in value.items() if name in fields}
    if is_dict(kind):
        (_, inner) = get_args(kind)
        return {name: in_schema(one, inner) for name, one in cast("Mapping[str, Any]", value).items()}
    if is_list(kind):
        (inner,) = get_args(kind)
        return [in_schema(one, inner) for one in value]
    return value.value if isinstance(value, Enum) else value


def _tidied(value: Any) -> Any:
    """The schema with `Login` for the Python type `LoginArgs`, because generators append "Args" to types of inputs, and
    without the description of a field at its entries."""
    if isinstance(value, list):
        return [_tidied(one) for one in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, one in cast("dict[str, Any]", value).items():
        if one is None or one == []:
            continue  # as the engine writes schemas
        if key in ("items", "additionalProperties") and isinstance(one, dict):
            one = {name: text for name, text in cast("dict[str, Any]", one).items() if name != "description"}
        elif key == "$ref":
            one = str(one).removesuffix(_SUFFIX)
        found[key.removesuffix(_SUFFIX) if ":index:" in key else key] = _tidied(one)
    return found
