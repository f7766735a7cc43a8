"""A preview as data: changes and policy violations. Rendered as Markdown or SARIF."""

from __future__ import annotations

import json
import os
from typing import Any

from cli import documents, engine, output, stack, upgrade
from cli.steps import REPLACING, Preview, Step, Violation
from cli.upgrade import Verdict
from components import sources
from components.catalogue import NO_DIGEST
from local import paths
from local.errors import LocalError
from policies.crossguard import pack
from policies.crossguard.rule import Level
from policies.crossguard.stage import stage

PACK = sources.ROOT / "policies" / "crossguard"
_QUIET = {"same", "read", "refresh"}


def collect(name: str, *, shown: bool = False) -> Preview:
    """Preview a stack and check its policies. Raises LocalError if the engine cannot start.

    With `shown`, the user sees the engine's own output, but not the stack's outputs, which repeat the configuration.
    """
    flags = policy_flags(name)
    if shown:
        return read(name, engine.run(name, "preview", "--suppress-outputs", *flags, shown=True))
    with output.waiting(f"previewing {name}"):
        return read(name, engine.run(name, "preview", *flags))


def read(name: str, outcome: engine.Outcome) -> Preview:
    """Read a preview from the engine's events."""
    preview = Preview(name)
    for event in outcome.events:
        _add(preview, event)
    if outcome.status != 0 and not preview.refused:
        raise LocalError("the preview failed", reason=outcome.text[-2000:])
    preview.steps.sort(key=lambda s: (s.operation not in REPLACING, s.part, s.operation, s.name))
    return preview


def document(preview: Preview, verdict: Verdict) -> documents.Preview:
    """The preview as a JSON document."""
    return documents.Preview(
        stack=preview.stack,
        refused=preview.refused or verdict.blocked,
        unchanged=preview.unchanged,
        changes=[documents.Change.model_validate(_lists(vars(step))) for step in preview.steps],
        policies=[
            documents.Objection(rule=v.rule, level=v.level.value, resource=v.resource, urn=v.urn, message=v.message)
            for v in preview.violations
        ],
        unreleased_images=preview.unreleased,
        errors=preview.errors,
        costs=preview.notes,
        upgrade=upgrade.document(verdict),
    )


def _lists(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def refuse_errors(found: Preview) -> None:
    """Raise LocalError if the engine reported errors, since the preview may be incomplete."""
    if found.errors:
        raise LocalError(f"the preview of {found.stack} failed", reason="\n       ".join(found.errors))


def policy_flags(name: str) -> list[str]:
    """Flags that make Pulumi check the policies, with the environment's enforcement levels."""
    levels = paths.state() / "pulumi" / f"levels-{name}.json"
    paths.write_private(levels, json.dumps(pack.levels(stage(name))))
    return ["--policy-pack", str(PACK), "--policy-pack-config", str(levels)]


def _add(preview: Preview, event: dict[str, Any]) -> None:
    if found := event.get("resourcePreEvent"):
        _add_step(preview, found["metadata"])
    elif found := event.get("policyEvent"):
        level = Level.MANDATORY if found["enforcementLevel"] == "mandatory" else Level.ADVISORY
        # The engine puts the rule's description before the rule's message.
        message = engine.plain(found["message"]).strip().splitlines()[-1]
        preview.violations.append(Violation(found["policyName"], level, found.get("resourceUrn", ""), message))
    elif found := event.get("diagnosticEvent"):
        text = engine.plain(found["message"]).strip()
        if found["severity"] == "error" and "preview failed" not in text:
            preview.errors.append(text)
        elif found["severity"] == "warning" and text.startswith(NO_DIGEST):
            if (reason := text.removeprefix(NO_DIGEST)) not in preview.unreleased:
                preview.unreleased.append(reason)
        elif found["severity"] == "info" and "USD per hour" in text:
            preview.notes.append(text)


def _add_step(preview: Preview, metadata: dict[str, Any]) -> None:
    urn, operation = metadata["urn"], metadata["op"]
    if operation in _QUIET:
        preview.unchanged += operation == "same"
        return
    if engine.type_of(urn).startswith(("cogniforge:", "pulumi:pulumi:")):
        return  # components have no state of their own
    preview.steps.append(
        Step(
            operation,
            engine.type_of(urn),
            urn.split("::")[-1],
            engine.part_of(urn, (metadata.get("new") or metadata.get("old") or {}).get("parent", "")),
            tuple(metadata.get("diffs") or ()),
            tuple(metadata.get("keys") or ()),
        )
    )


def markdown(preview: Preview) -> str:
    """A comment for a pull request: verdict, replacements, changes by part, policies, cost."""
    verdict = "would be refused" if preview.refused else "can go ahead"
    lines = [f"## Preview of `{preview.stack}`: {verdict}", ""]
    counts: dict[str, int] = {}
    for step in preview.steps:
        counts[step.operation] = counts.get(step.operation, 0) + 1
    summary = ", ".join(f"{count} {operation}" for operation, count in sorted(counts.items())) or "no changes"
    lines += [f"{summary}; {preview.unchanged} unchanged.", ""]
    lines += [f"- **Error:** {error}" for error in [*preview.errors, *preview.unreleased]]
    replaced = [s for s in preview.steps if s.operation in REPLACING]
    if replaced:
        lines += ["### Replaced: deleted and created again; their data is lost", ""]
        lines += [f"- `{s.type}` **{s.name}**: {', '.join(s.replacing) or 'forced'}" for s in replaced] + [""]
    if preview.violations:
        lines += ["### Policies", "", "| Level | Rule | Resource | Violation and fix |", "|---|---|---|---|"]
        ordered = sorted(preview.violations, key=lambda v: (v.level is Level.ADVISORY, v.rule, v.urn))
        lines += [f"| {v.level} | {v.rule} | `{v.resource}` | {_cell(v.message)} |" for v in ordered] + [""]
    lines += _by_part([s for s in preview.steps if s.operation not in REPLACING])
    if preview.notes:
        lines += ["### Cost", ""] + [f"- {note}" for note in preview.notes] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _by_part(steps: list[Step]) -> list[str]:
    lines: list[str] = []
    for part in sorted({s.part for s in steps}):
        mine = [s for s in steps if s.part == part]
        lines += [f"<details><summary>{part}: {len(mine)}</summary>", ""]
        for step in mine:
            fields = f" ({', '.join(step.fields)})" if step.fields else ""
            lines.append(f"- {step.operation} `{step.type}` {step.name}{fields}")
        lines += ["", "</details>", ""]
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def sarif(preview: Preview) -> str:
    """The violations in SARIF 2.1.0, for code scanning tools."""
    rules = [*pack.RULES, *pack.STACK_RULES]
    index = {rule.name: i for i, rule in enumerate(rules)}
    file = f"stacks/{stack.config_file(preview.stack).name}"
    results = [
        {
            "ruleId": v.rule,
            "ruleIndex": index[v.rule],
            "level": "error" if v.level is Level.MANDATORY else "warning",
            "message": {"text": f"{v.resource}: {v.message}"},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": 1}},
                    "logicalLocations": [{"fullyQualifiedName": v.urn, "kind": "resource"}],
                }
            ],
            "partialFingerprints": {"resource/v1": f"{v.rule}:{v.urn}"},
        }
        for v in preview.violations
        if v.rule in index
    ]
    described = [
        {
            "id": rule.name,
            "shortDescription": {"text": rule.description},
            "help": {"text": f"Fix: {rule.fix}."},
            "properties": {"tags": [rule.area.value]},
        }
        for rule in rules
    ]
    driver = {"name": "cogniforge-policies", "informationUri": "https://www.pulumi.com/crossguard", "rules": described}
    report = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }
    return json.dumps(report, indent=2) + os.linesep
