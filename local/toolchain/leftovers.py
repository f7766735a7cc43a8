"""What a killed engine leaves in a back end that is a folder: locks of dead processes, a state that is half written."""

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
    """One lock of a stack."""

    file: Path
    pid: int
    host: str
    since: float
    """Seconds since the epoch."""

    @property
    def stack(self) -> str:
        """The stack's name."""
        return self.file.parent.name

    def held(self) -> bool:
        """Whether its process lives. Locks of other machines count as held."""
        if self.host != socket.gethostname():
            return True
        try:
            process = psutil.Process(self.pid)
            # A process that is younger than the lock got the number of one that is gone.
            return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= self.since + _CLOCK_SLACK_S
        except psutil.Error:
            return False


def folder_of(url: str) -> Path | None:
    """The folder of a back end, or None where it is none."""
    return Path(url.removeprefix("file://").split("?")[0]).expanduser() if url.startswith("file://") else None


def locks(backend: Path) -> list[Lock]:
    """Every lock of a back end."""
    found: list[Lock] = []
    for file in (backend / ".pulumi" / "locks").rglob("*.json"):
        try:
            content = json.loads(file.read_text())
            since = datetime.fromisoformat(content["timestamp"]).timestamp()
            found.append(Lock(file, int(content["pid"]), str(content["hostname"]), since))
        except FileNotFoundError:
            continue  # just given back
        except (ValueError, KeyError, TypeError):
            found.append(Lock(file, 0, socket.gethostname(), 0.0))  # cut off while it was written
    return found


def clear(backend: Path) -> list[Lock]:
    """Remove the locks of dead processes and mend what was half written; returns the locks that are held."""
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
    """Put right what nobody writes any more.

    The engine replaces a state in one step, but not the file of attributes beside it: one that is cut off makes the
    state unreadable, and the engine does without it.
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
    """Put the state before the last write back; what cannot be read is kept beside it. Raises LocalError."""
    backup = file.with_name(f"{file.name}.bak")
    if not backup.exists() or not _readable(backup):
        raise LocalError(
            f"the state of the stack {file.stem} cannot be read, and neither can the one before it",
            reason=f"{file} was cut off while it was written, perhaps by a full disk or a loss of power",
            fix=f"put a copy from a backup of {file.parent} in its place",
        )
    shutil.copy2(file, file.with_name(f"{file.name}.broken"))
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    shutil.copy2(backup, temporary)
    temporary.replace(file)


def pending(backend: Path, stack: str) -> list[dict[str, Any]]:
    """Operations that were under way when the engine of a stack was killed."""
    for file in (backend / ".pulumi" / "stacks").rglob(f"{stack}.json"):
        with contextlib.suppress(OSError, ValueError):
            latest = json.loads(file.read_text()).get("checkpoint", {}).get("latest") or {}
            return latest.get("pending_operations") or []
    return []
