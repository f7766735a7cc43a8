"""`forge upgrade-check`: what an update means, part by part."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Say per part what an update means: safe, manual steps, blocked; and the way back. Exit status 1 if blocked."""
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
