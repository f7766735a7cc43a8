"""`forge kubectl`: runs kubectl for the local node."""

from __future__ import annotations

import subprocess
import sys

import typer

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def run(context: typer.Context) -> None:
    """Run kubectl with the local node's cluster."""
    from cli import cluster

    # The original arguments: the parser would remove the "--" that separates kubectl's options from a command's.
    typed = sys.argv[sys.argv.index("kubectl") + 1 :] if "kubectl" in sys.argv else context.args
    raise typer.Exit(subprocess.run([*cluster.kubectl(True, ""), *typed]).returncode)
