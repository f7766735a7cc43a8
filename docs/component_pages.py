"""Reference pages of the components: inputs with types, limits and defaults, outputs, an example."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, is_typeddict

from pulumi.provider.experimental.analyzer import is_dict, is_list
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from components.base import PlatformComponent
from components.config.base import Resources, limits
from components.plugin.analyzer import args_type, documented, fields_of
from components.plugin.offered import OFFERED
from components.plugin.provider import bare

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "components"
_GENERATED = "Generated from `components/` and `examples/components/`."


def slug(component: type[PlatformComponent]) -> str:
    """Name of a component's example and of its page, without suffix."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", component.__name__).lower()


def pages() -> dict[str, str]:
    """Every page by file name."""
    found = {f"{slug(one).replace('_', '-')}.md": page(one, model) for one, model in OFFERED.items()}
    return {"README.md": index(), **found}


def index() -> str:
    """The list of all components by area."""
    lines = ["# Components", "", _GENERATED, ""]
    lines += [
        "Each component can be used alone, in a Python program or through the plugin in any language of Pulumi. See",
        "[use the components in your own program](../../how-to/components.md). The plugin's schema is",
        "[components.schema.json](../components.schema.json).",
        "",
    ]
    areas: dict[str, list[type[PlatformComponent]]] = {}
    for one in OFFERED:
        areas.setdefault(one.__module__.split(".")[1], []).append(one)
    for area, members in sorted(areas.items()):
        lines += [f"## {area}", "", "| component | what it is |", "|---|---|"]
        for one in sorted(members, key=lambda member: member.__name__):
            link = f"[{one.__name__}]({slug(one).replace('_', '-')}.md)"
            lines.append(f"| {link} | {_cell(_first(one))} |")
        lines.append("")
    return "\n".join(lines)


def page(component: type[PlatformComponent], model: type[BaseModel]) -> str:
    """The page of a component."""
    module = component.__module__.replace("components.", "cogniforge.", 1)
    lines = [f"# {component.__name__}", "", _GENERATED, "", inspect.getdoc(component) or "", ""]
    lines += [
        f"Python: `from {module} import {component.__name__}`.",
        f"Other languages: `cogniforge:index:{component.__name__}`, with names in camelCase, such as `kubernetesName`",
        "for `kubernetes_name`. An input whose type is marked with \\* may be an output of another resource.",
        "",
        "## Inputs",
        "",
    ]
    nested: dict[str, tuple[Any, type[BaseModel] | None]] = {}
    lines += _table(args_type(component), model, nested)
    lines += ["## Outputs", "", "| output | type | meaning |", "|---|---|---|"]
    described = {**documented(PlatformComponent), **documented(component)}
    for name, kind in fields_of(component).items():
        lines.append(f"| `{name}` | {_type(kind, None, nested)} | {_cell(described.get(name, ''))} |")
    lines += ["", "## Example", "", "```python", (EXAMPLES / f"{slug(component)}.py").read_text().strip(), "```", ""]
    shown: set[str] = set()
    rest: list[str] = []
    while waiting := [name for name in nested if name not in shown]:
        for name in waiting:
            shown.add(name)
            kind, inner = nested[name]
            rest += [f"### {name}", "", (inspect.getdoc(kind) or "").split("\n\n")[0], ""]
            rest += _members(kind) if inspect.isclass(kind) and issubclass(kind, Enum) else _table(kind, inner, nested)
    if rest:
        lines += ["## Types", "", *rest]
    return "\n".join(lines)


def _table(kind: Any, model: type[BaseModel] | None, nested: dict[str, Any]) -> list[str]:
    lines = ["| input | type | default | limits | meaning |", "|---|---|---|---|---|"]
    described = documented(kind)
    for name, field in sorted(fields_of(kind).items(), key=lambda one: _is_optional(one[1])):
        known = model.model_fields.get(name) if model else None
        default = "" if _is_optional(field) else "required"
        if known is not None and default != "required":
            default = _default(known)
        allowed = "; ".join(_limits(known)) if known else ""
        about = (
            re.sub(r"\s*Default(:[^.]*| [^.]*)\.$", "", described.get(name, "")) if default else described.get(name, "")
        )
        lines.append(
            f"| `{name}` | {_type(field, known, nested)} | {_cell(default)} | {_cell(allowed)} | {_cell(about)} |"
        )
    return [*lines, ""]


def _members(kind: type[Enum]) -> list[str]:
    described = documented(kind)
    return [
        "| value | meaning |",
        "|---|---|",
        *(f'| "{m.value}" | {_cell(described.get(m.name, ""))} |' for m in kind),
        "",
    ]


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, Resources):
        return f'cpu "{value.cpu}", memory "{value.memory}"'
    if isinstance(value, BaseModel) or value is None or field.default_factory is not None or field.is_required():
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f'"{value}"' if isinstance(value, str) and value else str(value)


def _limits(field: FieldInfo) -> list[str]:
    """Limits of a value, or of the entries of a list."""
    return list(dict.fromkeys([*limits(field.metadata, _unit(field.annotation)), *_of_type(field.annotation)]))


def _of_type(kind: Any) -> list[str]:
    own = limits(kind.__metadata__, _unit(kind.__origin__)) if get_origin(kind) is Annotated else []
    return own + [limit for one in get_args(kind) for limit in _of_type(one)]


def _unit(kind: Any) -> str:
    return "entries" if get_origin(kind) in (list, tuple, dict) else "characters"


def _is_optional(kind: Any) -> bool:
    return bare(kind)[1]


def _type(kind: Any, field: FieldInfo | None, nested: dict[str, Any]) -> str:
    inner, _, later = bare(kind)
    mark = "\\*" if later and field is not None else ""
    if inner is Any or inner.__module__.startswith("pulumi"):
        return f"any{mark}"
    if is_list(inner) or is_dict(inner):
        word = "list of" if is_list(inner) else "object of"
        return f"{word} {_type(get_args(inner)[-1], field, nested)}{mark}"
    if is_typeddict(inner) or issubclass(inner, Enum):
        name = inner.__name__.removesuffix("Args")
        model = _model(field.annotation) if field is not None else None
        if name not in nested or nested[name][1] is None:
            nested[name] = (inner, model)
        return f"[{name}](#{name.lower()}){mark}"
    return _WORDS.get(inner, inner.__name__) + mark


_WORDS: Mapping[Any, str] = {str: "string", int: "whole number", float: "number", bool: "true or false"}


def _model(kind: Any) -> type[BaseModel] | None:
    if inspect.isclass(kind) and issubclass(kind, BaseModel):
        return kind
    return next((found for one in get_args(kind) if (found := _model(one))), None)


def _first(component: type[PlatformComponent]) -> str:
    return (inspect.getdoc(component) or "").split("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    """Text as Markdown shows it in a table."""
    return " ".join(text.split()).replace("|", "\\|")
