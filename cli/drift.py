"""`forge drift`: what was changed behind the platform's back."""

from __future__ import annotations

from dataclasses import dataclass

from cli import documents, engine, output, stack
from local.errors import LocalError

DRIFT_STATUS = 2
"""Exit status of `forge drift` where something drifted; 1 is for errors."""


@dataclass(frozen=True)
class Drifted:
    """One resource that is not as it was deployed."""

    operation: str
    """"update": changed; "delete": gone."""
    type: str
    name: str
    part: str
    fields: tuple[str, ...]


def find(name: str) -> list[Drifted]:
    """Read every resource of a stack and compare; nothing is changed. Raises LocalError where that fails."""
    stack.ensure(name)
    with output.waiting(f"reading the resources of {name}"):
        outcome = engine.run(name, "refresh", "--preview-only")
    if outcome.status != 0:
        fix = "check that the cluster and the account can be reached"
        raise LocalError(f"the resources of {name} cannot be read", reason=outcome.text[-2000:], fix=fix)
    found: list[Drifted] = []
    for event in outcome.events:
        metadata = event.get("resOutputsEvent", {}).get("metadata", {})
        if metadata.get("op") in ("update", "delete"):
            urn = metadata["urn"]
            fields = tuple(sorted(metadata.get("detailedDiff") or metadata.get("diffs") or ()))
            part, type_ = engine.part_of(urn), engine.type_of(urn)
            found.append(Drifted(metadata["op"], type_, urn.split("::")[-1], part, fields))
    return sorted(found, key=lambda d: (d.part, d.type, d.name))


def document(name: str, drifted: list[Drifted]) -> documents.Drift:
    """The same for programs."""
    return documents.Drift.model_validate(
        {"stack": name, "resources": [{**vars(item), "fields": list(item.fields)} for item in drifted]}
    )


def markdown(name: str, drifted: list[Drifted]) -> str:
    """A report by part."""
    if not drifted:
        return f"## `{name}` is as it was deployed\n"
    lines = [f"## `{name}` drifted: {len(drifted)} resources", "", "| Part | Resource | What |", "|---|---|---|"]
    for item in drifted:
        what = "deleted" if item.operation == "delete" else f"changed: {', '.join(item.fields) or '(outputs)'}"
        lines.append(f"| {item.part} | `{item.type}` {item.name} | {what} |")
    mend = f"To put it right: `forge up -s {name}`. To keep it: change the definition to match, then the same."
    return "\n".join([*lines, "", mend, ""])
