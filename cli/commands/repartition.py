"""`forge repartition`: applies configured MIG layouts to running nodes."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from cli import output
from cli.options import Stack
from local.errors import LocalError


def run(
    pool_name: Annotated[str, typer.Argument(metavar="POOL", help="Name of a pool in cluster.gpuPools.")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the plan, one node at a time. Without it, only show the plan.")
    ] = False,
    stack_name: Stack = "prod",
    limit: Annotated[int, typer.Option(min=1, help="Time limit in seconds for each pod and node.")] = 600,
) -> None:
    """Apply the configured MIG layouts to a pool. Pods on GPUs that keep their layout are not evicted."""
    from kubernetes import client

    from cli import gpu_state, stack
    from cli import repartition as repartitions
    from cli import status as status_view

    config = stack.read_config(stack_name)
    pool = next((p for p in config.cluster.gpu_pools if p.name == pool_name), None)
    if pool is None:
        known = ", ".join(p.name for p in config.cluster.gpu_pools) or "there are none"
        raise LocalError(f'{stack_name} has no GPU pool "{pool_name}"', fix=f"use one of: {known}")
    core = client.CoreV1Api(status_view.connect(None, config.cluster.context or None))
    steps = repartitions.plan(core, pool, partial(gpu_state.metrics_of, core))
    for step in steps.steps:
        output.console.print(str(step), markup=False)
    print(
        f"{len(steps.steps)} GPUs to change, {len(steps.evicted)} pods to evict; {steps.untouched} GPUs stay the same"
    )
    if apply:
        repartitions.carry_out(core, pool, steps, output.say, limit)
