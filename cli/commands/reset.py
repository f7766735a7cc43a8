"""`forge reset`: deletes the local environment with all data."""

from __future__ import annotations

from cli import output
from cli.options import Yes


def run(yes: Yes = False) -> None:
    """Delete the local environment, all its data and its signing keys. Built tools stay cached."""
    from cli import destruction, local_environment

    if destruction.show_reset():
        output.confirm("Delete all of this?", yes)
    local_environment.reset()
