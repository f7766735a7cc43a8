"""`forge promote`: deploys the release of one environment to the next."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from cli import output
from cli.options import Format, Output
from local.errors import LocalError


def run(
    source: Annotated[str, typer.Argument(help="Environment to promote from, of stage dev or staging.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Environment of the next stage; default: the one named after that stage.")
    ] = None,
    soak: Annotated[int, typer.Option(min=0, help="Minutes that the release must have run in the source.")] = 60,
    accept_manual: Annotated[
        bool, typer.Option("--accept-manual", help="Confirm that the manual steps of `upgrade-check` are done.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the gates.")] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Deploy an environment's release to the next one. Refused unless all gates pass."""
    from cli import local_environment, promotion

    if output_format is Format.JSON:
        output.only_documents()
    target = promotion.next_environment(source, to)
    gates = promotion.gates(source, target, soak, accept_manual)
    for gate in gates:
        output.line(
            f"{'[green]pass[/]' if gate.passed else '[red]fail[/]'} {gate.name}: {escape(gate.found)}", indent=5
        )
        if not gate.passed:
            output.line(f"     fix: {escape(gate.fix)}", indent=10)
    passed = all(gate.passed for gate in gates)
    promoted = passed and not dry_run
    if promoted:
        local_environment.up(target, quiet=output_format is Format.JSON)
    if output_format is Format.JSON:
        output.document(promotion.document(source, target, gates, promoted))
    if not passed:
        raise LocalError(f"{source} is not promoted to {target}", fix="see the failed gates above")
