"""Leftovers of a killed engine in a backend folder: locks of ended processes, and partially written files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from local.errors import LocalError

_CLOCK_SLACK_S = 2.0


@dataclass(frozen=True)
class Lock:
    """A lock of a stack."""

    file: Path
    pid: int
    host: str
    since: float
    """Time of its creation, in seconds since the epoch."""

    @property
    def stack(self) -> str:
        """Name of the stack."""
        return self.file.parent.name

    def held(self) -> bool:
        """Whether its process is running. Locks of other machines count as held."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            # A process that is younger than the lock has reused the process ID.
            return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= self.since + _CLOCK_SLACK_S
        except psutil.Error:
            return False


def folder_of(url: str) -> Path | None:
    """Folder of a backend URL, or None if it is not a folder."""
    return Path(url.removeprefix("file://").split("?")[0]).expanduser() if url.startswith("file://") else None


def locks(backend: Path) -> list[Lock]:
    """All locks of a backend."""
    found: list[Lock] = []
    for file in (backend / ".pulumi" / "locks").rglob("*.json"):
        try:
            content = json.loads(file.read_text())
            since = datetime.fromisoformat(content["timestamp"]).timestamp()
            found.append(Lock(file, int(content["pid"]), str(content["hostname"]), since))
        except FileNotFoundError:
            continue  # just released
        except (ValueError, KeyError, TypeError):
            found.append(Lock(file, 0, socket.gethostname(), 0.0))  # partially written
    return found


def clear(backend: Path) -> list[Lock]:
    """Remove locks of ended processes and repair partially written files. Returns the locks that are held."""
    held: list[Lock] = []
    for lock in locks(backend):
        if lock.held():
            held.append(lock)
        else:
            lock.file.unlink(missing_ok=True)
    if not held:
        _mend(backend / ".pulumi")
    return held


def _mend(folder: Path) -> None:
    """Repair partially written files of engines that have ended.

    The engine replaces a state file atomically, but not the attributes file next to it. A partial attributes file makes
    the state unreadable; the engine works without it, so it is removed.
    """
    for attributes in folder.rglob("*.attrs"):
        if not attributes.with_suffix("").exists() or not _readable(attributes):
            attributes.unlink(missing_ok=True)
    for temporary in folder.rglob("*.tmp"):
        temporary.unlink(missing_ok=True)
    for state in (folder / "stacks").rglob("*.json"):
        if not _readable(state):
            _restore(state)


def _readable(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_text()), dict)
    except ValueError:
        return False
    except FileNotFoundError:
        return True


def _restore(file: Path) -> None:
    """Restore the previous version of a state file. The unreadable one is kept next to it. Raises LocalError."""
    backup = file.with_name(f"{file.name}.bak")
    if not backup.exists() or not _readable(backup):
        raise LocalError(
            f"the state of the stack {file.stem} cannot be read, and neither can its previous version",
            reason=f"{file} is incomplete, perhaps because of a full disk or a power failure",
            fix=f"replace it by a copy from a backup of {file.parent}",
        )
    shutil.copy2(file, file.with_name(f"{file.name}.broken"))
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    shutil.copy2(backup, temporary)
    temporary.replace(file)


def pending(backend: Path, stack: str) -> list[dict[str, Any]]:
    """Operations that were running when the engine of a stack was killed."""
    for file in (backend / ".pulumi" / "stacks").rglob(f"{stack}.json"):
        with contextlib.suppress(OSError, ValueError):
            latest = json.loads(file.read_text()).get("checkpoint", {}).get("latest") or {}
            return latest.get("pending_operations") or []
    return []
