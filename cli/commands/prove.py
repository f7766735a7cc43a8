"""`forge prove`: compares who can do what with the services' records."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack
from local.errors import LocalError


def run(
    stack_name: Stack = "local",
    comment: Annotated[bool, typer.Option("--comment", help="Print Markdown for a pull request.")] = False,
    matrix: Annotated[bool, typer.Option("--matrix", help="Print who can do what, as Markdown.")] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Prove that only what the records ask for is possible. Needs no cluster. Exit status 1 if it is not so."""
    from cli import prove

    if comment + matrix + (output_format is Format.JSON) > 1:
        raise LocalError("--comment, --matrix and --output json exclude each other", fix="choose one of them")
    found = prove.collect(stack_name)
    if output_format is Format.JSON:
        output.document(prove.document(found))
    elif comment or matrix:
        print(prove.markdown(found, matrix=matrix), end="")
    else:
        prove.show(found)
    if found.counterexamples:
        raise typer.Exit(1)
