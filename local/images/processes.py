"""Runs programs for builds, in threads, so that an interruption ends them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Mapping, Sequence

from local.errors import LocalError


class _Running:
    """Programs that run now."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.programs: set[subprocess.Popen[str]] = set()
        self.interrupted = False


_STATE = _Running()


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return its output as text. Raises LocalError after `interrupt`."""
    with _STATE.lock:
        if _STATE.interrupted:
            raise LocalError("the build is interrupted", fix="run the same command again to continue")
        program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        _STATE.programs.add(program)
    try:
        out, err = program.communicate()
    finally:
        with _STATE.lock:
            _STATE.programs.discard(program)
    return subprocess.CompletedProcess(command, program.returncode, out, err)


def interrupt() -> None:
    """End all programs with SIGTERM, and start no others until `begin`."""
    with _STATE.lock:
        _STATE.interrupted = True
        for program in _STATE.programs:
            program.terminate()


def begin() -> None:
    """Allow programs to start again."""
    with _STATE.lock:
        _STATE.interrupted = False
