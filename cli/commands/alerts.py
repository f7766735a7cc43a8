"""`forge alerts`: shows the alerts of the environment's Prometheus."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(stack_name: Stack = "local", output_format: Output = Format.TEXT) -> None:
    """Show alerts that fire, or whose condition holds not long enough yet. Exit status 1 if a page fires."""
    from cli import alerts

    found = alerts.collect(stack_name)
    if output_format is Format.JSON:
        output.document(found)
    else:
        alerts.show(found)
    if any(alert.state == "firing" and alert.severity == "page" for alert in found.alerts):
        raise typer.Exit(1)
