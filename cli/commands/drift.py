"""`forge drift`: finds resources that were changed outside of Pulumi."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show resources that were changed outside of Pulumi. Changes nothing. Exit status 2 if there are any."""
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
