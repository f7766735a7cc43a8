"""`forge rotate`: lists secrets and rotates them."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack
from components.services.registry import USAGE
from local.errors import LocalError

_EXAMPLE = f"postgres/{USAGE.name}"


def _names(context: typer.Context, incomplete: str) -> list[str]:
    """Names for shell completion."""
    from cli import rotation, stack

    try:
        found = rotation.names(stack.read_config(context.params.get("stack_name") or "local"))
    except LocalError:
        return []
    return [one.name for one in found if one.name.startswith(incomplete)]


def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Secrets to rotate, such as {_EXAMPLE}. Default: list all.", autocompletion=_names),
    ] = None,
    rotate_all: Annotated[bool, typer.Option("--all", help="Rotate all secrets that need no restart.")] = False,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """List secrets, or rotate them without a failed request. Exit status 1 if one cannot be rotated."""
    from cli import rotation

    if names and rotate_all:
        raise LocalError("names and --all exclude each other", fix="choose one of them")
    if names or rotate_all:
        with output.waiting("rotating: pods get new logins, and old ones end once nothing uses them"):
            found = rotation.rotated(stack_name, names or ())
    else:
        found = rotation.listed(stack_name)
    if output_format is Format.JSON:
        output.document(rotation.document(found))
    else:
        rotation.show(found)
    if any(one.problem for one in found):
        raise typer.Exit(1)
