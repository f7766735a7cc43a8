"""`forge runbook`: shows what an alert means, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(
    name: Annotated[str, typer.Argument(help="Name of an alert, such as VolumeAlmostFull.")],
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show an alert's runbook: its cause, commands that show the cause, and the fix."""
    from cli import runbooks

    found = runbooks.find(stack_name, name)
    if output_format is Format.JSON:
        output.document(found)
    else:
        runbooks.show(found)
