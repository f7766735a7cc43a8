"""`connect_probe.py PORT LOGIN [ORPHANS]`: whether a Connect worker is ready; with ORPHANS, whether it may live on.

LOGIN is a file that holds the login, as `user=password`. ORPHANS is a file with the worker's messages about tasks that
it could not stop. They run on beside their successors and hold what these need, so that nothing is captured until the
process ends. While the worker does not belong to its group, because Kafka is away, a new process would not help.
"""

from __future__ import annotations

import base64
import socket
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

PATIENCE_S = 4.0
"""Kubernetes gives the probe five."""


def request(port: str, login: str) -> urllib.request.Request:
    """The worker's list of connectors, which it has once it belongs to its group."""
    user, _, password = login.strip().partition("=")
    shown = base64.b64encode(f"{user}:{password}".encode()).decode()
    return urllib.request.Request(f"http://127.0.0.1:{port}/connectors", headers={"Authorization": f"Basic {shown}"})


def unready(port: str, login: Path) -> str:
    """Why the worker is not ready; empty: it is."""
    try:
        with urllib.request.urlopen(request(port, login.read_text()), timeout=PATIENCE_S) as answer:
            return "" if answer.status == 200 else f"it answers {answer.status}"
    except OSError as error:
        return str(error)


def doomed(port: str, login: Path, orphans: Path) -> str:
    """Why the worker has to be started anew; empty: it may live on."""
    try:
        socket.create_connection(("127.0.0.1", int(port)), PATIENCE_S).close()
    except OSError as error:
        return str(error)
    told = orphans.read_text() if orphans.exists() else ""
    if told and not unready(port, login):
        return f"tasks that could not be stopped run on: {told}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """0: all is well. Else the pod's events show what is printed."""
    port, login, *orphans = arguments
    reason = doomed(port, Path(login), Path(orphans[0])) if orphans else unready(port, Path(login))
    if reason:
        print(reason)
    return 1 if reason else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
