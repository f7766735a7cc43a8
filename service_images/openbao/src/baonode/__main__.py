"""`python3 -m baonode <command>`."""

from __future__ import annotations

import sys

from baonode import check, databases, keeper, rotation, server
from baonode.client import Refused, Unreachable
from baonode.layout import Problem

COMMANDS = {
    "serve": server.main,
    "keep": keeper.main,
    "check": check.main,
    "databases": databases.main,
    "rotation": rotation.main,
}


def main(arguments: list[str]) -> int:
    """Run one command. Exit status 1 if it fails, 2 for an unknown command."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(f"usage: baonode {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[arguments[0]]()
    except (Problem, Refused, Unreachable) as problem:
        print(f"{arguments[0]}: {problem}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
