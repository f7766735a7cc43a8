"""Ports for servers that tests start."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the kernel's range for outgoing connections (32768 and above), which could take a port between the stop and the
# restart of a server; below it and above the ports of the local node's servers.
_RANGE = range(12_000, 30_000)
_HELD: dict[int, int] = {}
"""Locked files of this process, by port."""


def free_port(span: int = 1) -> int:
    """First of some consecutive free ports. No other test process gets them before this one ends."""
    folder = Path(tempfile.gettempdir()) / "cogniforge-test-ports"
    folder.mkdir(exist_ok=True)
    for first in random.Random().choices(_RANGE[:-span], k=1000):
        if all(_reserved(folder, port) for port in range(first, first + span)):
            return first
    raise RuntimeError(f"no {span} consecutive free ports from {_RANGE.start} to {_RANGE.stop - 1}")


def _reserved(folder: Path, port: int) -> bool:
    if port in _HELD:
        return False
    file = os.open(folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.bind(("", port))
    except OSError:
        os.close(file)
        return False
    _HELD[port] = file
    return True
