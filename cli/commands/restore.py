"""`forge restore`: PostgreSQL goes back to a moment."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.options import Stack
from local.errors import LocalError


def run(
    until: Annotated[str, typer.Argument(help="The moment to go back to, with its zone: 2026-11-24T18:00:00Z.")],
    stack_name: Stack = "local",
    limit: Annotated[int, typer.Option(min=1, help="Seconds that it may take.")] = 900,
) -> None:
    """Take PostgreSQL back to a moment. What was there before is kept on its volume."""
    from cli import cluster, stack
    from cli import restore as restores

    config = stack.read_config(stack_name)
    if config.data.postgres is None or config.data.object_store is None:
        raise LocalError(f"{stack_name} has no PostgreSQL with backups", fix="add data.postgres and data.objectStore")
    if config.data.postgres.rds:
        raise LocalError(
            f"PostgreSQL of {stack_name} runs at RDS, which goes back by itself",
            fix="`aws rds restore-db-instance-to-point-in-time` makes a new instance; see docs/how-to/data.md",
        )
    command = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    restores.restore(command, config.cluster.namespace, until, output.say, limit)
    print(f"PostgreSQL is as it was at {until}")
