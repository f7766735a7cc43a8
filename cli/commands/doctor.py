"""`forge doctor`: what this machine lacks."""

from __future__ import annotations

import typer

from cli import output
from cli.options import Format, Output


def run(output_format: Output = Format.TEXT) -> None:
    """Check this machine: what is missing and how to get it. Exit status 1 if something is."""
    from cli import doctor

    found = doctor.findings()
    ready = all(f.ok or not f.required for f in found)
    if output_format is Format.JSON:
        output.document(doctor.document(found, ready))
    else:
        for finding in found:
            show(finding.what, finding.ok, finding.found, finding.fix)
    if not ready:
        raise typer.Exit(1)


def show(what: str, ok: bool, found: str, fix: str) -> None:
    """One line, and what to do where it is not as it should be."""
    output.line(f"{'[green]ok[/]  ' if ok else '[red]miss[/]'} {what}: {found}", indent=7)
    if not ok:
        output.line(f"       fix: {fix}", indent=12)
