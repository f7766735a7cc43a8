"""Runs the Pulumi CLI so that it ends in order, even if the process that started it is killed.

An engine that receives one stop signal completes its running operations and records them. After a second signal, or if
killed, it leaves objects that its state lacks. So each signal is forwarded only once, and the engine's output does not
depend on this process.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

_PR_SET_PDEATHSIG = 1
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LIBC = ctypes.CDLL(None)


def _begin() -> None:
    """In the child: receive a stop signal when `forge` is killed, and handle signals even if `forge` ignores them."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Forward stop signals to the engine. Yields a list of the received signal numbers."""
    received: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        received.append(number)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(
    command: Sequence[str | Path], env: Mapping[str, str], cwd: Path, out: IO[bytes] | None, err: IO[bytes] | None
) -> int:
    # In its own session, the engine receives a closed terminal or Ctrl-C only through this process, and only once.
    process = subprocess.Popen(
        [str(part) for part in command],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
        preexec_fn=_begin,
    )
    with _passing_on(process) as received:
        status = process.wait()
    if received:
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + received[0])
    return status


def attended(command: Sequence[str | Path], env: Mapping[str, str]) -> int:
    """Run the command in the user's terminal, where it may ask questions. Returns its exit status."""

    def begin() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal reaches the engine as a stop signal

    process = subprocess.Popen([str(part) for part in command], env=dict(env), preexec_fn=begin)
    # The terminal sends Ctrl-C to the engine. Signals to this process alone are forwarded.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT) if process.poll() is None else None)
    return process.wait()


def show(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> int:
    """Run the command and show its output. Returns its exit status.

    Raises KeyboardInterrupt or SystemExit after a stop signal, once the engine has stopped.
    """
    return _run(command, env, cwd, None, None)


def capture(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command and capture its output. Raises as `show` does."""
    # Files instead of pipes: writing to a pipe whose reader was killed would end the engine during its work.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = _run(command, env, cwd, out, err)
        return subprocess.CompletedProcess(list(map(str, command)), status, _read(out), _read(err))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
