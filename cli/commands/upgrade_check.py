"""`forge upgrade-check`: shows the effects of an update by part."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show for each part whether an update is safe, needs manual steps or is blocked, and the rollback plan.

    Exit status 1 if it is blocked.
    """
    from cli import preview as previews
    from cli import stack, upgrade

    stack.read_config(stack_name)
    stack.ensure(stack_name)
    found = previews.collect(stack_name)
    previews.refuse_errors(found)
    verdict = upgrade.check(stack_name, found)
    if output_format is Format.JSON:
        output.document(upgrade.document(verdict))
    else:
        print(upgrade.markdown(verdict), end="")
    if verdict.blocked:
        raise typer.Exit(1)
