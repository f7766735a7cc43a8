"""`forge drift`: what was changed behind the platform's back."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show what was changed behind the platform's back; changes nothing. Exit status 2 if anything was."""
    from cli import drift, stack

    stack.read_config(stack_name)
    stack.require_deployed(stack_name)
    found = drift.find(stack_name)
    if output_format is Format.JSON:
        output.document(drift.document(stack_name, found))
    else:
        print(drift.markdown(stack_name, found), end="")
    if found:
        raise typer.Exit(drift.DRIFT_STATUS)
