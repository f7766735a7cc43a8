"""Schema of the components, from their annotations and docstrings.

Pulumi's analyzer reads annotations as they are. The components postpone theirs, inherit inputs from other TypedDicts,
and have outputs that only a Python program can use, such as the resources that a component has made. This analyzer
evaluates the annotations, finds inherited docstrings, and leaves those outputs out.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, ForwardRef, get_args, get_origin, is_typeddict

import pulumi
from pulumi.provider.experimental.analyzer import (
    Analyzer,
    ComponentDefinition,
    PropertyDefinition,
    is_dict,
    is_input,
    is_list,
    is_optional,
    is_output,
    unwrap_input,
    unwrap_optional,
    unwrap_output,
)
from pulumi.provider.experimental.util import camel_case

_SIMPLE = (str, int, float, bool)
_KUBERNETES = "pulumi_kubernetes"


def args_type(component: type[pulumi.ComponentResource]) -> Any:
    """The TypedDict of a component's inputs. Raises TypeError for a component that takes others arguments."""
    init: Callable[..., None] = component.__init__
    parameters = list(inspect.signature(init).parameters)
    if parameters != ["self", "name", "args", "opts"]:
        raise TypeError(f"{component.__name__} takes ({', '.join(parameters)}); expected (self, name, args, opts)")
    return _evaluated(init.__annotations__["args"], init.__module__)


def _is_ours(kind: type) -> bool:
    return kind.__module__.split(".")[0] == __name__.split(".")[0]


@functools.cache
def fields_of(of: Any) -> Mapping[str, Any]:
    """Types of the inputs in a TypedDict, or of the outputs of a component, by Python name."""
    found: dict[str, Any] = {}
    for kind in reversed(of.__mro__):
        if _is_ours(kind):
            own = {name: _evaluated(text, kind.__module__) for name, text in inspect.get_annotations(kind).items()}
            found |= {name: one for name, one in own.items() if not name.startswith("_")}
    if is_typeddict(of):
        return found
    return {name: one for name, one in found.items() if get_origin(one) is not ClassVar and _is_plain(one)}


@functools.cache
def documented(of: Any) -> Mapping[str, str]:
    """Docstrings of the fields of a class and of its bases."""
    found: dict[str, str] = {}
    (statement,) = ast.parse(inspect.getsource(of)).body
    assert isinstance(statement, ast.ClassDef)
    scope = vars(sys.modules[of.__module__])
    for base in statement.bases:
        kind = eval(ast.unparse(base), scope)  # a TypedDict does not know its bases
        if inspect.isclass(kind) and _is_ours(kind):
            found |= documented(kind)
    for field, text in zip(statement.body, statement.body[1:], strict=False):
        target = field.target if isinstance(field, ast.AnnAssign) else None
        target = field.targets[0] if isinstance(field, ast.Assign) else target
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(target, ast.Name) and is_text:
            found[target.id] = " ".join(str(text.value.value).split())  # pyright: ignore
    return found


def _evaluated(value: Any, module: str) -> Any:
    if isinstance(value, ForwardRef):
        # An inherited field of a TypedDict names the module that its text is written in.
        value, module = value.__forward_arg__, getattr(value, "__forward_module__", None) or module
    return eval(value, vars(sys.modules[module])) if isinstance(value, str) else value


def _is_plain(kind: Any) -> bool:
    """Whether another language can have a value of this type."""
    if kind is Any or kind in _SIMPLE:
        return True
    if is_output(kind):
        return _is_plain(unwrap_output(kind))
    if is_input(kind):
        return _is_plain(unwrap_input(kind))
    if is_optional(kind):
        return _is_plain(unwrap_optional(kind))
    if is_list(kind) or is_dict(kind):
        return all(_is_plain(one) for one in get_args(kind))
    return inspect.isclass(kind) and (issubclass(kind, Enum) or is_typeddict(kind))


class SchemaAnalyzer(Analyzer):
    """Makes the schema of components whose inputs are TypedDicts."""

    def analyze_component(self, component: type[pulumi.ComponentResource]) -> ComponentDefinition:
        """Inputs and outputs of a component."""
        inputs, inputs_mapping = self.analyze_type(args_type(component), is_component_output=False)
        outputs, outputs_mapping = self.analyze_type(component, is_component_output=True)
        return ComponentDefinition(
            name=component.__name__,
            description=inspect.getdoc(component),
            inputs=inputs,
            inputs_mapping=inputs_mapping,
            outputs=outputs,
            outputs_mapping=outputs_mapping,
            module=component.__module__,
        )

    def analyze_type(
        self, typ: type, *, is_component_output: bool
    ) -> tuple[dict[str, PropertyDefinition], dict[str, str]]:
        """Properties by name in the schema, and the Python names of these."""
        found = {
            name: self.analyze_property(
                kind,
                typ,
                name,
                can_be_plain=not is_component_output,
                is_component_output=is_component_output,
            )
            for name, kind in fields_of(typ).items()
        }
        return {camel_case(name): one for name, one in found.items()}, {camel_case(name): name for name in found}

    def analyze_property(
        self,
        arg: Any,
        typ: type,
        name: str,
        *,
        can_be_plain: bool,
        is_component_output: bool,
        optional: bool | None = None,
    ) -> PropertyDefinition:
        """One property. Types of the Kubernetes SDK are any value here, because the API server checks these."""
        kind: Any = Any if getattr(arg, "__module__", "").startswith(_KUBERNETES) else arg
        return super().analyze_property(
            kind,
            typ,
            name,
            can_be_plain=can_be_plain,
            is_component_output=is_component_output,
            optional=optional,
        )

    def get_docstring(self, typ: type, name: str) -> str | None:
        """Docstring of a field, whether the class itself or a base has the field."""
        return next((text for one in typ.__mro__ if _is_ours(one) and (text := documented(one).get(name))), None)
