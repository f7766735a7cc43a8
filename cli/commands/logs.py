"""`forge logs`: shows the logs of a part, from its pods or from the log store."""

from __future__ import annotations

import subprocess
from typing import Annotated

import typer

from cli import output
from cli.options import Format, Output, Stack
from local.errors import LocalError


def run(
    part: Annotated[
        str,
        typer.Argument(
            help="Name of a part, such as router; with --node, of a process of the local node. Without a name, the log "
            "store shows all services.",
            show_default=False,
        ),
    ] = "",
    node: Annotated[bool, typer.Option("--node", help="Show the log of a process of the local node.")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines until interrupted.")] = False,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=10_000, help="Number of last lines of each pod, or of all.")
    ] = 50,
    since: Annotated[
        str, typer.Option("--since", help="Ask the log store for lines of this time, such as 15m, 2h or 3d.")
    ] = "",
    grep: Annotated[str, typer.Option("--grep", help="Ask the log store for lines with this text.")] = "",
    trace: Annotated[str, typer.Option("--trace", help="Ask the log store for lines of the trace with this ID.")] = "",
    tenant: Annotated[str, typer.Option("--tenant", help="Ask the log store for lines about this tenant.")] = "",
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Show the logs of a part: of its pods, or of the log store, which also has lines of pods that are gone."""
    from cli import cluster, stack
    from cli import status as status_view

    asks_store = bool(since or grep or trace or tenant or output_format is Format.JSON)
    if node and not asks_store and part:
        _show_process(part, lines)
        return
    if node:
        raise LocalError(
            "--node needs the name of a process, and none of --since, --grep, --trace, --tenant and --output",
            fix="name a process, such as kubelet",
        )
    if asks_store or not part:
        _show_stored(stack_name, output_format, lines, follow, (since, part, grep, trace, tenant))
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


def _show_stored(
    stack_name: str, output_format: Format, lines: int, follow: bool, asked: tuple[str, str, str, str, str]
) -> None:
    from datetime import UTC, datetime

    from cli import log_lines
    from cli.documents import LoggedLines
    from components.observability.log_query import MOST_LINES, LogQuery

    since, service, grep, trace, tenant = asked
    begin = datetime.now(UTC) - log_lines.duration(since or "1h")
    query = LogQuery(begin, min(lines, MOST_LINES), service, tenant, trace.lower(), grep)
    with log_lines.opened(stack_name) as store:
        if not follow:
            found = store.lines(query)
            if output_format is Format.JSON:
                output.document(LoggedLines(stack=stack_name, lines=[log_lines.document(line) for line in found]))
                return
            for line in found:
                log_lines.show(line)
            if not found:
                output.line("no line fits")
            return
        try:
            for line in log_lines.follow(store, query):
                if output_format is Format.JSON:
                    print(log_lines.document(line).model_dump_json(), flush=True)
                else:
                    log_lines.show(line)
        except KeyboardInterrupt:
            return


def _show_process(name: str, lines: int) -> None:
    from local.node.node import Node
    from local.node.process import tail

    known = {process.name: process for process in Node().processes()}
    if name not in known:
        raise LocalError(f'the node has no process "{name}"', fix=f"use one of: {', '.join(known)}")
    print("\n".join(tail(known[name].log_file, lines)))
