"""`python3 -m pgnode <command>`."""

from __future__ import annotations

import sys

from pgnode import backups, check, collections, pool, provision, restore, server
from pgnode.settings import Problem

COMMANDS = {
    "serve": server.main,
    "pool": pool.main,
    "backups": backups.main,
    "provision": provision.main,
    "check": check.main,
    "collections": collections.main,
    "request-restore": restore.request,
}


def main(arguments: list[str]) -> int:
    """Run one command. Exit status 2 for an unknown one."""
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: pgnode {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        return COMMANDS[arguments[0]](*arguments[1:]) or 0
    except Problem as problem:
        print(f"{arguments[0]}: {problem}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
