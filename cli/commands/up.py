"""`forge up`: creates or updates an environment."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack
from components.config.profile import Profile


def run(
    stack_name: Stack = "local",
    profile: Annotated[
        Profile | None,
        typer.Option(help="Parts that run: core, standard or full. It is written to the stack file and stays."),
    ] = None,
    show_pulumi: Annotated[bool, typer.Option("--show-pulumi", help="Show Pulumi's own output.")] = False,
) -> None:
    """Create or update the environment. Shows its URL and a first answer. Refused if `upgrade-check` says blocked."""
    from cli import environment_file, local_environment

    if profile and environment_file.set_profile(stack_name, profile):
        output.line(f"Wrote profile: {profile.value} to stacks/Pulumi.{stack_name}.yaml.")
    local_environment.up(stack_name, show_pulumi=show_pulumi)
