"""Runs the setup task of a system, with the desired state in PROVISION and the server at ENDPOINT, or a process beside
a server."""

from __future__ import annotations

import importlib
import sys

from tasks.common import Problem

SYSTEMS = ("cache", "capture", "isolation", "kafka", "nats", "nats_logins", "objects", "realm", "registry", "snapshots")


def main(arguments: list[str]) -> int:
    """Run one system's task. Exit status 1 if it fails, 2 for an unknown system."""
    if len(arguments) != 1 or arguments[0] not in SYSTEMS:
        print(f"usage: tasks {'|'.join(SYSTEMS)}", file=sys.stderr)
        return 2
    try:
        said = importlib.import_module(f"tasks.{arguments[0]}").main()
    except Problem as problem:
        print(f"{arguments[0]}: {problem}", file=sys.stderr, flush=True)
        return 1
    print(f"{arguments[0]}: {said or 'the desired state is applied and the check has passed'}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
