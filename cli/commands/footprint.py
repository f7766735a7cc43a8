"""`forge footprint`: measures what each part costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(
    stack_name: Stack = "local",
    seconds: Annotated[float, typer.Option(min=10, max=3600, help="How long CPU usage is measured.")] = 60,
    requests: Annotated[
        int,
        typer.Option(min=0, max=100_000, help="Chat requests to send, to measure how much telemetry they produce."),
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(help="JSON file that gets the figures, in place of those of the same profile.")
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Measure CPU, memory, disk, image size and start time of each part. Changes nothing in the cluster."""
    from cli import footprint, telemetry_volume

    measured = footprint.collect(stack_name, seconds)
    telemetry = telemetry_volume.collect(stack_name, measured.began, requests) if requests else []
    found = footprint.document(measured, telemetry)
    if output_format is Format.JSON:
        output.document(found)
    else:
        footprint.show(found)
    if save:
        footprint.save(found, save)
