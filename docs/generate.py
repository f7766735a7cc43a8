"""`python docs/generate.py`: writes the reference pages from the code; a test checks that they are current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer.main

from cli.main import app
from components.config.schema import json_schema

FOLDER = Path(__file__).resolve().parent / "reference"


def configuration() -> str:
    """Every field with its type, default, and what changing it does."""
    schema = json.loads(json_schema())
    lines = ["# Configuration", "", "Generated from `components/config/`.", ""]
    for name, section in [("PlatformConfig", schema), *sorted(schema["$defs"].items())]:
        if "properties" not in section:
            continue
        lines += [f"## {name}", "", section.get("description", "").split("\n")[0], ""]
        lines += ["| field | type | default | change | meaning |", "|---|---|---|---|---|"]
        for field, definition in section["properties"].items():
            default = json.dumps(definition["default"]) if "default" in definition else "required"
            meaning = definition.get("description", "").replace("|", "\\|")
            change = definition.get("x-change", "")
            lines.append(f"| `{field}` | {_type(definition)} | `{default}` | {change} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _type(definition: dict[str, Any]) -> str:
    if "$ref" in definition:
        return str(definition["$ref"]).rsplit("/", 1)[-1]
    if definition.get("type") == "array":
        return f"list of {_type(definition.get('items', {}))}"
    return str(definition.get("type", "object"))


def commands() -> str:
    """Every command of `forge` with its options."""
    group = typer.main.get_command(app)
    lines = ["# Commands", "", "Generated from `cli/main.py`.", ""]
    named: dict[str, Any] = {}
    for name, command in group.commands.items():  # pyright: ignore
        inner = getattr(command, "commands", None)
        named |= {f"{name} {one}": each for one, each in inner.items()} if inner else {name: command}
    for name, command in sorted(named.items()):
        lines += [f"## forge {name}", "", (command.help or "").strip(), ""]
        for parameter in command.params:
            names = ", ".join([*parameter.opts, *parameter.secondary_opts])
            if names and "--help" not in names:
                lines.append(f"- `{names}` {getattr(parameter, 'help', None) or ''}".rstrip())
        lines.append("")
    return "\n".join(lines)


def write() -> None:
    """Write both pages."""
    (FOLDER / "configuration.md").write_text(configuration())
    (FOLDER / "commands.md").write_text(commands())


if __name__ == "__main__":
    write()
