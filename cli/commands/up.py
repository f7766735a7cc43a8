"""`forge up`: creates or updates an environment."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import Stack


def run(
    stack_name: Stack = "local",
    show_pulumi: Annotated[bool, typer.Option("--show-pulumi", help="Show Pulumi's own output.")] = False,
) -> None:
    """Create or update the environment. Shows its URL and a first answer. Refused if `upgrade-check` says blocked."""
    from cli import local_environment

    local_environment.up(stack_name, show_pulumi=show_pulumi)
