"""`forge restore`: restores PostgreSQL to a point in time."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack
from local.errors import LocalError


def run(
    until: Annotated[str, typer.Argument(help="Point in time with its time zone, such as 2026-11-24T18:00:00Z.")],
    stack_name: Stack = "local",
    limit: Annotated[int, typer.Option(min=1, help="Time limit in seconds.")] = 900,
) -> None:
    """Restore PostgreSQL to a point in time. The previous data stays on the volume."""
    from cli import cluster, stack
    from cli import restore as restores

    config = stack.read_config(stack_name)
    if config.data.postgres is None or config.data.object_store is None:
        raise LocalError(f"{stack_name} has no PostgreSQL with backups", fix="add data.postgres and data.objectStore")
    if config.data.postgres.rds:
        raise LocalError(
            f"PostgreSQL of {stack_name} runs on RDS, which has its own restore",
            fix="`aws rds restore-db-instance-to-point-in-time` creates a new instance; see docs/how-to/data.md",
        )
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    restores.restore(command, config.cluster.namespace, until, output.say, limit)
    print(f"PostgreSQL is restored to {until}")
