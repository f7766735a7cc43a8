"""`forge drift`: finds resources that were changed outside of Pulumi."""

from __future__ import annotations

from dataclasses import dataclass

from cli import cluster, documents, engine, output, stack
from local.errors import LocalError

DRIFT_STATUS = 2
"""Exit status of `forge drift` if resources have drifted; 1 is for errors."""


@dataclass(frozen=True)
class Drifted:
    """A resource that differs from its last deployment."""

    operation: str
    """"update": changed; "delete": deleted."""
    type: str
    name: str
    part: str
    fields: tuple[str, ...]


def find(name: str) -> list[Drifted]:
    """Compare all resources of a stack with its state. Changes nothing. Raises LocalError if that is impossible."""
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
            state = metadata.get("old") or metadata.get("new") or {}
            part, type_ = engine.part_of(urn, state.get("parent", "")), engine.type_of(urn)
            found.append(Drifted(metadata["op"], type_, urn.split("::")[-1], part, fields))
    found += _of_realm(name)
    return sorted(found, key=lambda d: (d.part, d.type, d.name))


def _of_realm(name: str) -> list[Drifted]:
    """Differences of Keycloak's realm, whose content is not a resource of Pulumi."""
    config = stack.read_config(name)
    if config.security.keycloak is None:
        return []
    from cli import realm  # it loads the SDK of Kubernetes, which takes seconds

    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    with output.waiting(f"reading the realm of {name}"):
        different = realm.differences(command, config.cluster.namespace)
    # What the task would add was removed by somebody.
    return [
        Drifted("delete" if verb == "add" else "update", "realm", what, realm.PART, fields)
        for verb, what, fields in different
    ]


def document(name: str, drifted: list[Drifted]) -> documents.Drift:
    """The drifted resources as a JSON document."""
    return documents.Drift.model_validate(
        {"stack": name, "resources": [{**vars(item), "fields": list(item.fields)} for item in drifted]}
    )


def markdown(name: str, drifted: list[Drifted]) -> str:
    """The drifted resources by part, as Markdown."""
    if not drifted:
        return f"## `{name}` has not drifted\n"
    lines = [f"## `{name}` drifted: {len(drifted)} resources", "", "| Part | Resource | Change |", "|---|---|---|"]
    for item in drifted:
        what = "deleted" if item.operation == "delete" else f"changed: {', '.join(item.fields) or '(outputs)'}"
        lines.append(f"| {item.part} | `{item.type}` {item.name} | {what} |")
    mend = f"To revert the changes, run `forge up -s {name}`. To keep them, change the definition first, then run it."
    return "\n".join([*lines, "", mend, ""])
