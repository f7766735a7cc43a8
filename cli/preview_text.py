"""Text output of `forge preview`: verdict, replacements, policies, changes by part, cost."""

from __future__ import annotations

from collections import Counter

from rich.markup import escape

from cli import output
from cli.steps import REPLACING, Preview
from cli.upgrade import Verdict
from components.transitions import Risk
from policies.crossguard.rule import Level

_HALVES = ("create-replacement", "delete-replaced")
"""Operations that are the two halves of a "replace"."""
_VERBS = {
    "create": "[green]{n} to create[/]",
    "update": "[yellow]{n} to change[/]",
    "replace": "[red]{n} to replace[/]",
    "delete": "[red]{n} to delete[/]",
}


def show(found: Preview, verdict: Verdict, *, steps: bool = True) -> None:
    """Print the short view. Without `steps`, print only what the engine's own output lacks."""
    refused = found.refused or verdict.blocked
    state = "[bold red]would be refused[/]" if refused else "[bold green]can go ahead[/]"
    output.line(f"[bold]Preview of {found.stack}[/]: {state}")
    if steps:
        output.line(
            f"{_counts(Counter(s.operation for s in found.steps)) or 'no changes'}; {found.unchanged} unchanged"
        )
    _section("Errors", [escape(error) for error in found.errors], "red")
    if found.unreleased:
        release = "fix: `forge release` pushes the images to the registry and locks their digests"
        _section("Images without a digest", [*(escape(reason) for reason in found.unreleased), release], "red")
    if steps:
        replaced = [s for s in found.steps if s.operation in REPLACING and s.operation not in _HALVES]
        reasons = [f"{s.type} {s.name}: {', '.join(s.replacing) or 'forced'}" for s in replaced]
        _section(
            "Replaced: deleted and created again; their data is lost", [escape(reason) for reason in reasons], "red"
        )
    ordered = sorted(found.violations, key=lambda v: (v.level is Level.ADVISORY, v.rule, v.urn))
    _section("Policies", [escape(f"{v.level} {v.rule}: {v.resource}: {v.message}") for v in ordered])
    if steps:
        _by_part(found)
    _upgrade(verdict)
    _section("Cost", [escape(note) for note in found.notes] or ([f"{verdict.cost}"] if verdict.cost else []))


def _counts(operations: Counter[str]) -> str:
    shown = [(operation, count) for operation, count in operations.items() if operation not in _HALVES]
    order = list(_VERBS)
    shown.sort(key=lambda one: (order.index(one[0]) if one[0] in order else len(order), one[0]))
    return ", ".join(_VERBS.get(operation, f"{{n}} to {operation}").format(n=count) for operation, count in shown)


def _section(title: str, lines: list[str], style: str = "") -> None:
    if not lines:
        return
    output.console.print()
    output.line(f"[bold {style}]{title}[/]" if style else f"[bold]{title}[/]")
    for text in lines:
        output.line(f"  - {text}", indent=4)


def _by_part(found: Preview) -> None:
    if not found.steps:
        return
    output.console.print()
    view = output.table("part", "changes")
    for part in sorted({step.part for step in found.steps}):
        mine = Counter(step.operation for step in found.steps if step.part == part)
        if counted := _counts(mine):
            view.add_row(part, counted)
    output.console.print(view)


def _upgrade(verdict: Verdict) -> None:
    if not verdict.deployed:
        _section("Upgrade", ["nothing is deployed yet; all resources are new"])
        return
    # Safe findings are in the table of parts. Changed fields are always shown.
    listed = [f for f in verdict.findings if f.risk is not Risk.SAFE or "->" in f.what]
    lines = [f"{f.risk.value}: {f.part}: {f.what}" + (f" ({f.todo})" if f.todo else "") for f in listed]
    _section(f"Upgrade: {verdict.risk.value}", [escape(text) for text in lines] or ["no field or version changes"])
