"""`python docs/generate.py`: writes the reference pages from the code; a test checks that they are current."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer.main

from cli import footprint as footprints
from cli import runbooks
from cli.documents import DOCUMENTS, FootprintDocument
from cli.main import app
from components.config.profile import Profile
from components.config.schema import json_schema
from components.observability.alerts import runbooks as every_alert
from components.services.registry import SERVICES

FOLDER = Path(__file__).resolve().parent / "reference"
_SERVICE_IMAGES = FOLDER.parents[1] / "service_images"
sys.path[:0] = [str(_SERVICE_IMAGES / "kit" / "src"), str(FOLDER.parent)]
import component_pages  # noqa: E402
from kit import reference  # noqa: E402


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
    if isinstance(entries := definition.get("additionalProperties"), dict):
        return f"object of {_type(entries)}"
    return str(definition.get("type", "object"))


def commands() -> str:
    """Every command of `forge` with its options."""
    group = typer.main.get_command(app)
    lines = ["# Commands", "", "Generated from `cli/commands`.", ""]
    lines += [
        "`forge --install-completion` sets up completion for your shell, `forge --version` shows the version. What",
        "`--output json` prints is in [JSON output](json-output.md).",
        "",
    ]
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


def json_output() -> str:
    """Every document that `--output json` prints."""
    lines = ["# JSON output", "", "Generated from `cli/documents.py`.", ""]
    lines += [
        "`--output json` prints one document to standard output; progress and errors go to standard error.",
        "Exit statuses are those of the text. Fields are added, but never renamed or removed; a change that breaks",
        "readers raises `version`. A command that fails before it has a result prints no document.",
        "",
    ]
    for command, model in DOCUMENTS.items():
        schema = model.model_json_schema(mode="serialization")
        lines += [f"## forge {command}", ""]
        for name, section in [("", schema), *schema.get("$defs", {}).items()]:
            lines += [f"### {command}: {name}", ""] if name else []
            lines += ["| field | type | meaning |", "|---|---|---|"]
            for field, definition in section["properties"].items():
                meaning = definition.get("description", "").replace("|", "\\|")
                lines.append(f"| `{field}` | {_json_type(definition)} | {meaning} |")
            lines.append("")
    return "\n".join(lines)


def _json_type(definition: dict[str, Any]) -> str:
    if "anyOf" in definition:
        return " or ".join(_json_type(one) for one in definition["anyOf"])
    if "const" in definition:
        return f"`{json.dumps(definition['const'])}`"
    if "enum" in definition:
        return " or ".join(f"`{json.dumps(value)}`" for value in definition["enum"])
    if definition.get("type") == "array":
        return f"list of {_json_type(definition['items'])}"
    if definition.get("type") == "object" and "additionalProperties" in definition:
        return f"object of {_json_type(definition['additionalProperties'])}"
    return _type(definition)


def api(service: str) -> str:
    """Every operation and schema of a service, from its OpenAPI document."""
    document = json.loads((_SERVICE_IMAGES / service / "openapi.json").read_text())
    found = reference.read(document)
    lines = [f"# API of {SERVICES[service].title}", "", f"Generated from `service_images/{service}/openapi.json`.", ""]
    lines += [found.description, ""] if found.description else []
    for one in found.operations:
        key = "No key is needed." if one.scopes is None else _scopes(one.scopes)
        lines += [f"## {one.method} {one.path}", "", f"{one.summary} {key}".strip(), ""]
        rows = [*one.parameters, *([one.body] if one.body else []), *one.fields]
        lines += [*_rows("parameter or body", rows), ""] if rows else []
        lines += ["| status | answer | meaning |", "|---|---|---|"]
        lines += [f"| {a.status} | {_cell(a.type) or 'empty'} | {_cell(a.meaning)} |" for a in one.answers]
        lines.append("")
    lines += ["# Schemas", ""]
    for schema in found.schemas:
        lines += [f"## {schema.name}", ""]
        lines += [schema.meaning, ""] if schema.meaning else []
        lines += [*_rows("field", schema.fields), ""] if schema.fields else [_cell(schema.type), ""]
    return "\n".join(lines)


def _scopes(names: tuple[str, ...]) -> str:
    return f"The key needs the scope `{names[0]}`." if names else "Any key that is known."


def _rows(what: str, rows: Iterable[reference.Row]) -> list[str]:
    lines = [f"| {what} | type | required | meaning |", "|---|---|---|---|"]
    for row in rows:
        needed = "yes" if row.required else ""
        lines.append(f"| `{row.name}` | {_cell(row.type)} | {needed} | {_cell(row.meaning)} |")
    return lines


def _cell(text: str) -> str:
    """Text as Markdown shows it in a table."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def alerts() -> str:
    """Runbook of every alert."""
    lines = ["# Alerts", "", "Generated from `components/observability/` and `components/services/`.", ""]
    about = (
        "Each alert has a runbook: what is wrong, the usual causes, commands that show the cause, and the fix. A "
        "*page* needs somebody now, a *ticket* within days. `forge runbook NAME` shows the same. NAMESPACE is the "
        "namespace of the environment; other words in capitals are labels of the raised alert, which `forge alerts` "
        "shows. For the local cluster, write `forge kubectl` in place of `kubectl`."
    )
    lines += [_wrapped(about), ""]
    for name, rule in sorted(every_alert("NAMESPACE", SERVICES.values()).items()):
        found = runbooks.read(rule)
        after = f", after {found.lasts}" if found.lasts != "0m" else ""
        lines += [
            f"## {name}",
            "",
            f"*{found.severity}*{after}. {_cell(found.summary)}",
            "",
            f"Cause: {found.cause}",
            "",
        ]
        lines += ["```sh", *found.checks, "```", "", f"Fix: {found.fix}", ""]
    return "\n".join(lines)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 127, break_long_words=False, break_on_hyphens=False)


def access() -> str:
    """Who can do what in the production environment."""
    from cli import prove  # a late import: the SDKs of the providers take seconds to load

    return prove.markdown(prove.collect("prod"), matrix=True)


def footprint() -> str:
    """Figures of each profile, as `forge footprint --save` measured them."""
    lines = [
        "# Footprint",
        "",
        "Generated from [footprint.json](footprint.json), which `forge footprint --save` writes. "
        "Measure your own environment with the same command.",
        "",
        _wrapped(
            "CPU is the mean over the stated time, at rest. Memory is the working set. Disk is the used space of the "
            "part's volumes. Image is the size on the node, unpacked; the total counts an image that several parts run "
            "once. Start is the time from the start of a pod's containers until it is ready. The node's own processes "
            "are not counted; `forge status` shows them."
        ),
        "",
    ]
    measured: dict[str, Any] = json.loads((FOLDER / "footprint.json").read_text())
    for profile, figures in measured.items():
        found = FootprintDocument.model_validate(figures)
        meaning = Profile(profile).meaning
        lines += [f"## {profile}", "", f"{meaning} CPU was measured for {found.seconds:g} s.", ""]
        lines += [*_markdown(footprints.rows(found)), ""]
        if found.telemetry:
            lines += ["### Telemetry", "", _wrapped(_TELEMETRY), "", *_markdown(footprints.telemetry_rows(found)), ""]
    return "\n".join(lines)


_TELEMETRY = (
    "MiB a day at this many chat requests per second, from the volume at rest and the additional volume of each "
    "request. Logs are lines as pods write them. Metrics count two bytes for each stored sample, the most that "
    "Prometheus states. Traces are stored spans as Jaeger's JSON."
)


def _markdown(rows: list[list[str]]) -> list[str]:
    head, *rest = rows
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in rest)]


def write() -> None:
    """Write all pages."""
    (FOLDER / "footprint.md").write_text(footprint())
    (FOLDER / "access.md").write_text(access())
    for service in SERVICES:
        (FOLDER / "api" / f"{service}.md").write_text(api(service))
    (FOLDER / "alerts.md").write_text(alerts())
    (FOLDER / "configuration.md").write_text(configuration())
    (FOLDER / "commands.md").write_text(commands())
    (FOLDER / "json-output.md").write_text(json_output())
    for name, text in component_pages.pages().items():
        (FOLDER / "components" / name).write_text(text)


if __name__ == "__main__":
    write()
