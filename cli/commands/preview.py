"""`forge preview`: shows what an update would change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack
from local.errors import LocalError


def run(
    stack_name: Stack = "local",
    full: Annotated[bool, typer.Option("--full", help="Show the engine's own output, with every resource.")] = False,
    comment: Annotated[bool, typer.Option("--comment", help="Print Markdown for a pull request.")] = False,
    sarif: Annotated[Path | None, typer.Option(help="Write policy violations to this file, as SARIF.")] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Show changes and policy violations. Needs no cluster. Exit status 1 if `up` would be refused."""
    from cli import policy, preview_text, stack, upgrade
    from cli import preview as previews

    if full + comment + (output_format is Format.JSON) > 1:
        raise LocalError("--full, --comment and --output json exclude each other", fix="choose one of them")
    policy.refuse_lock_out(stack_name, stack.read_config(stack_name))
    stack.ensure(stack_name)
    found = previews.collect(stack_name, shown=full)
    if sarif is not None:
        sarif.write_text(previews.sarif(found))
    verdict = upgrade.check(stack_name, found)
    if output_format is Format.JSON:
        output.document(previews.document(found, verdict))
    elif comment:
        print(previews.markdown(found))
        print(upgrade.markdown(verdict), end="")
    else:
        preview_text.show(found, verdict, steps=not full)
    if found.refused or verdict.blocked:
        raise typer.Exit(1)
