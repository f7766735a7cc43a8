"""Checks before the node starts: root, packages, memory, disk, free ports."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import psutil

from local.errors import LocalError
from local.node import settings
from local.toolchain import packages


def check_disk(folder: Path, floor_bytes: int = settings.DISK_FLOOR_BYTES) -> None:
    """Raise LocalError if the disk is nearly full: without space, etcd loses data."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < floor_bytes:
        raise LocalError(
            f"the disk of {existing} is nearly full",
            reason=f"{free / 1024**3:.1f} GiB free, {floor_bytes / 1024**3:.0f} GiB needed",
            fix="free some space, or set COGNIFORGE_HOME to a folder on a larger disk",
        )


def check_memory() -> None:
    """Raise LocalError if there is too little free memory."""
    available = psutil.virtual_memory().available
    if available < settings.MEMORY_FLOOR_BYTES:
        raise LocalError(
            "there is too little free memory",
            reason=f"{available / 1024**3:.1f} GiB available, {settings.MEMORY_FLOOR_BYTES / 1024**3:.0f} GiB needed",
            fix="close other programs, or use a larger machine",
        )


def _owner(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid is None:
                    continue
                process = psutil.Process(connection.pid)
                return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        pass
    return "another program"


def taken_ports(ports: Mapping[int, str], address: str = "127.0.0.1") -> list[str]:
    """Messages about ports that other programs use."""
    lines: list[str] = []
    for port, user in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                lines.append(f"{address}:{port} (for {user}) is in use by {_owner(port)}")
    return lines


def check_ports(ports: Mapping[int, str]) -> None:
    """Raise LocalError if ports are in use. It names the ports and the programs."""
    if lines := taken_ports(ports):
        raise LocalError(
            "ports that the local environment needs are in use",
            reason="\n       ".join(lines),
            fix="stop those programs, then run the same command again",
        )


def check(folder: Path, ports: Mapping[int, str]) -> None:
    """Run all checks, in the order in which a new user corrects them."""
    packages.require_root()
    check_disk(folder)
    check_memory()
    if names := packages.missing():
        raise LocalError(
            f"these Debian packages are missing: {', '.join(names)}",
            fix="run `forge up`, which installs them",
        )
    check_ports(ports)
