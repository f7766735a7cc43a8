"""`forge logs`: shows the logs of a part."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from cli.options import Stack
from local.errors import LocalError


def run(
    part: Annotated[
        str, typer.Argument(help="Name of a part, such as router; with --node, of a process of the local node.")
    ],
    node: Annotated[bool, typer.Option("--node", help="Show the log of a process of the local node.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until interrupted.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=10_000, help="Number of last lines of each pod.")
    ] = 50,
    stack_name: Stack = "local",
) -> None:
    """Show the logs of a part."""
    from cli import cluster, stack
    from cli import status as status_view

    if node:
        _show_process(part, lines)
        return
    config = stack.read_config(stack_name)
    known = status_view.names(cluster.kubeconfig(config), config.cluster.context or None, config.cluster.namespace)
    if part not in known:
        fix = f"use one of: {', '.join(known)}" if known else f"run `forge up -s {stack_name}`"
        raise LocalError(f'{stack_name} has no part "{part}"', fix=fix)
    command = [*cluster.kubectl(cluster.is_local(config), config.cluster.context), "logs"]
    command += ["--namespace", config.cluster.namespace, "--selector", f"{status_view.PART_LABEL}={part}"]
    command += ["--tail", str(lines), "--prefix", *(["--follow"] if follow else [])]
    if subprocess.run(command).returncode != 0:
        raise LocalError(f'the logs of "{part}" cannot be read', reason="see kubectl's message above")


def _show_process(name: str, lines: int) -> None:
    from local.node.node import Node
    from local.node.process import tail

    known = {process.name: process for process in Node().processes()}
    if name not in known:
        raise LocalError(f'the node has no process "{name}"', fix=f"use one of: {', '.join(known)}")
    print("\n".join(tail(known[name].log_file, lines)))
