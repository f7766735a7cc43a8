"""`forge status`: shows version, health and resource usage of each part."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(
    stack_name: Stack = "local",
    all_rows: Annotated[bool, typer.Option("--all", help="Show tasks, too.")] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Show version, health, image, CPU and memory of each part. Exit status 1 if a part is not healthy."""
    from cli import status as status_view

    found = status_view.collect(stack_name)
    if output_format is Format.JSON:
        output.document(status_view.document(found))
    else:
        status_view.show(found, tasks=all_rows)
    if not found.healthy:
        raise typer.Exit(1)
