"""Probes of a Kafka Connect worker: `connect_probe.py PORT LOGIN [ORPHANS]`. Readiness; with ORPHANS, liveness.

LOGIN is a file with the login, as `user=password`. ORPHANS is a file with the worker's messages about tasks that it
could not stop. Such tasks block their successors, so no changes are captured until the process restarts. While Kafka is
unavailable and the worker is not in its group, a restart would not help.
"""

from __future__ import annotations

import base64
import socket
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

PATIENCE_S = 4.0
"""Time limit in seconds. That of the Kubernetes probe is five."""


def request(port: str, login: str) -> urllib.request.Request:
    """Request for the worker's list of connectors, which is available once the worker is in its group."""
    user, _, password = login.strip().partition("=")
    shown = base64.b64encode(f"{user}:{password}".encode()).decode()
    return urllib.request.Request(f"http://127.0.0.1:{port}/connectors", headers={"Authorization": f"Basic {shown}"})


def unready(port: str, login: Path) -> str:
    """Reason why the worker is not ready; empty if it is."""
    try:
        with urllib.request.urlopen(request(port, login.read_text()), timeout=PATIENCE_S) as answer:
            return "" if answer.status == 200 else f"the worker answers with status {answer.status}"
    except OSError as error:
        return str(error)


def doomed(port: str, login: Path, orphans: Path) -> str:
    """Reason why the worker must restart; empty if it need not."""
    try:
        socket.create_connection(("127.0.0.1", int(port)), PATIENCE_S).close()
    except OSError as error:
        return str(error)
    names = orphans.read_text() if orphans.exists() else ""
    if names and not unready(port, login):
        return f"tasks that could not be stopped are still running: {names}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 if the probe succeeds. Otherwise the printed reason appears in the pod's events."""
    port, login, *orphans = arguments
    reason = doomed(port, Path(login), Path(orphans[0])) if orphans else unready(port, Path(login))
    if reason:
        print(reason)
    return 1 if reason else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
