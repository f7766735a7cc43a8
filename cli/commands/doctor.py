"""`forge doctor`: checks this machine."""

from __future__ import annotations

import typer
from rich.markup import escape

from cli import output
from cli.options import Format, Output


def run(output_format: Output = Format.TEXT) -> None:
    """Check this machine: what is missing, how to get it, and how the platform can run.

    Exit status 1 if the platform cannot run.
    """
    from cli import doctor

    found = doctor.findings()
    possible = doctor.ways(found)
    if output_format is Format.JSON:
        output.document(doctor.document(found, possible))
    else:
        for finding in found:
            show(finding.what, finding.ok, finding.found, finding.fix)
        for way in possible:
            mark = "[green]possible[/]" if way.possible else "[yellow]not possible[/]"
            output.line(f"{mark}: {way.name}: {escape(way.what)}", indent=7)
    if not any(way.possible for way in possible):
        raise typer.Exit(1)


def show(what: str, ok: bool, found: str, fix: str) -> None:
    """Print the result of a check, with a fix if it failed."""
    output.line(f"{'[green]ok[/]  ' if ok else '[red]miss[/]'} {what}: {escape(found)}", indent=7)
    if not ok:
        output.line(f"       fix: {escape(fix)}", indent=12)
