"""`forge secret-store`: saves, lists and restores snapshots of the secret store."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack, Yes

app = typer.Typer(no_args_is_help=True, help="Secret store: save, list and restore snapshots.")


def _run(stack_name: str, action: str, name: str = "") -> str:
    from cli import cluster, snapshots, stack

    config = stack.read_config(stack_name)
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    return snapshots.run(command, config.cluster.namespace, action, name)


@app.command(name="snapshots")
def show_all(stack_name: Stack = "local") -> None:
    """List the snapshots in the object store, oldest first."""
    print(_run(stack_name, "list"))


@app.command()
def snapshot(stack_name: Stack = "local") -> None:
    """Save a snapshot now, and read it back."""
    print(_run(stack_name, "take"))


@app.command()
def restore(
    name: Annotated[str, typer.Argument(help="Name from `forge secret-store snapshots`; default: the newest.")] = "",
    stack_name: Stack = "local",
    yes: Yes = False,
) -> None:
    """Replace the whole content of the secret store by a snapshot's. Secrets that were written since are lost."""
    chosen = name or "the newest snapshot"
    output.confirm(f"Restore {chosen} of {stack_name}? Secrets written since then are lost.", yes)
    print(_run(stack_name, "restore", name))
