"""`python tests/perf/bench_environment.py`: seconds and memory of the local environment.

The peer of each figure is plain `kubectl` doing nothing but talk to the same API server in the same
session: the ratio shows what the engine, its plugins and our checks add. Needs the environment up.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from cli import stack
from cli.local_environment import node_kubeconfig
from local.node.node import Node
from local.toolchain import builder
from local.toolchain.tools import ToolName

RUNS = 3


def seconds(action: Callable[[], object]) -> float:
    """The median of a few runs."""
    times: list[float] = []
    for _ in range(RUNS):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _kubectl() -> None:
    command = [str(builder.resolve(ToolName.NODE)), "kubectl", "--kubeconfig", str(node_kubeconfig())]
    subprocess.run([*command, "get", "all", "--all-namespaces"], capture_output=True, check=True)


def _pulumi(*arguments: str) -> Callable[[], None]:
    def run() -> None:
        result = stack.capture(*arguments, "--stack", "local", "--non-interactive")
        assert result.returncode == 0, result.stdout + result.stderr

    return run


def _forge() -> None:
    subprocess.run([str(Path(sys.executable).with_name("forge")), "up"], capture_output=True, check=True)


def _memory_mib() -> tuple[int, int]:
    """Proportional memory of the node's own processes, and of all pods with their shims."""
    node = [p.running() for p in Node().processes()]
    own = sum(p.memory_full_info().pss for p in node if p)
    shims = [p for p in psutil.process_iter() if "containerd-shim" in p.name()]
    pods = sum(c.memory_full_info().pss for s in shims for c in [s, *s.children(recursive=True)])
    return own // 2**20, pods // 2**20


def main() -> None:
    """Print the figures as JSON."""
    peer = seconds(_kubectl)
    figures = {
        "peer: kubectl get all, s": peer,
        "pulumi preview without changes, s": seconds(_pulumi("preview")),
        "pulumi up without changes, s": seconds(_pulumi("up", "--yes")),
        "forge up without changes, s": seconds(_forge),
    }
    node, pods = _memory_mib()
    ratios = {name.replace(", s", ", ratio to the peer"): value / peer for name, value in figures.items()}
    memory = {"memory of the node, MiB": node, "memory of the pods, MiB": pods}
    print(json.dumps({k: round(v, 2) for k, v in {**figures, **ratios, **memory}.items()}, indent=2))


if __name__ == "__main__":
    main()
