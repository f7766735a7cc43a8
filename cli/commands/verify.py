"""`forge verify`: verifies every image that runs in an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack


def run(
    stack_name: Stack = "local",
    max_age_days: Annotated[
        int | None,
        typer.Option(min=1, help="Highest age of an image in days. Default: images.maxAgeDays of the stack file."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Public key for the signatures. Default: the key of this machine.")
    ] = None,
    output_format: Output = Format.TEXT,
) -> None:
    """Verify each running image: digest, signature, provenance, SBOM, age. Exit status 1 if one fails."""
    from cli import verify

    found = verify.collect(stack_name, max_age_days, key)
    if output_format is Format.JSON:
        output.document(verify.document(found))
    else:
        verify.show(found)
    if not found.verified:
        raise typer.Exit(1)
