"""Long-running processes with a recorded identity. They run detached, and are found and stopped by process ID."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.errors import LocalError
from local.paths import write_private

STOP_GRACE_S = 15.0


@dataclass(frozen=True)
class Process:
    """A process of the node."""

    name: str
    command: Sequence[str]
    pids: Path
    logs: Path
    environment: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def log_file(self) -> Path:
        """File with standard output and standard error."""
        return self.logs / f"{self.name}.log"

    @property
    def _record(self) -> Path:
        return self.pids / f"{self.name}.json"

    def running(self) -> psutil.Process | None:
        """The running process that `start` recorded, or None. Its start time excludes a reused process ID."""
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            if record["born"] == _born(process.pid) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (OSError, ValueError, KeyError, psutil.Error):
            pass
        return None

    def _record_self(self) -> None:
        """Write the record of the calling process."""
        pid = os.getpid()
        write_private(self._record, json.dumps({"pid": pid, "born": _born(pid), "command": list(self.command)}))

    def up_to_date(self) -> bool:
        """Whether it runs with the current command."""
        if self.running() is None:
            return False
        return json.loads(self._record.read_text()).get("command") == list(self.command)

    def start(self) -> bool:
        """Start the process, unless it runs with the current command. Returns whether it was started."""
        if self.up_to_date():
            return False
        program = self.command[0]
        if shutil.which(program) is None:
            raise LocalError(f"{program} is not installed", fix="run `forge doctor` to see what is missing and get it")
        self.stop()
        self.logs.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            subprocess.Popen(
                list(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, **self.environment},
                # The child writes its own record before it executes the program. If the parent wrote it, a `forge` that
                # is killed at this moment would leave a process without a record.
                preexec_fn=self._record_self,
            )
        return True

    def stop(self, grace_s: float = STOP_GRACE_S) -> bool:
        """Stop the process: TERM, then KILL after `grace_s` seconds. Returns whether it was running."""
        process = self.running()
        if process is not None:
            process.send_signal(signal.SIGTERM)
            if not _gone(process, grace_s):
                process.kill()
                _gone(process, 5.0)
        self._record.unlink(missing_ok=True)
        return process is not None

    def require_running(self) -> None:
        """Raise LocalError with the last lines of the log if the process has ended."""
        if self.running() is None:
            raise LocalError(
                f"{self.name} stopped right after its start",
                reason="\n       ".join(tail(self.log_file)),
                fix=f"the whole log is {self.log_file}; `forge up` tries again",
            )


def _born(pid: int) -> str:
    """Start time of a process: the boot ID, and clock ticks since boot (proc(5), field 22).

    The wall clock is not used, since it can be changed while the process runs.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {fields[19]}"


def _gone(process: psutil.Process, timeout_s: float) -> bool:
    """Wait until a process has ended. If it is a child, reap it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(process.pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            pass
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def tail(path: Path, lines: int = 8) -> list[str]:
    """The last lines of a log."""
    try:
        return path.read_text(errors="replace").splitlines()[-lines:]
    except OSError:
        return ["(no log)"]
