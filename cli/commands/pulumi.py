"""`forge pulumi`: Pulumi's own commands, for any program."""

from __future__ import annotations

import sys

import typer

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run(context: typer.Context) -> None:
    """Run Pulumi in this folder with the platform's CLI, and with its plugins where no others are installed."""
    from local.toolchain import shim

    # As they were typed: the parser takes away a "--".
    typed = sys.argv[sys.argv.index("pulumi") + 1 :] if "pulumi" in sys.argv else context.args
    raise typer.Exit(shim.attended([*typed]))
