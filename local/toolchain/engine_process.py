"""Runs the Pulumi CLI so that it ends in order, whatever happens to the process that started it.

An engine that is told once to stop finishes what it has begun and records it. Told twice, or killed, it leaves objects
that its state does not know. So signals are passed on once each, and the engine's output does not depend on us.
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
    """In the child: be told to stop when `forge` is killed; take signals even where `forge` was told to ignore them."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _passing_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Tell the engine to stop for each signal that asks us to; yields the numbers of those that came."""
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
    # A session of its own: a terminal that closes, or a Ctrl-C in it, reaches the engine through us and only once.
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
    """Run it in the user's terminal, where it may ask questions; returns its exit status."""

    def begin() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal is told to it as a request to stop

    process = subprocess.Popen([str(part) for part in command], env=dict(env), preexec_fn=begin)
    # A Ctrl-C reaches it from the terminal; what is meant for us alone is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGINT) if process.poll() is None else None)
    return process.wait()


def show(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> int:
    """Run it with its output shown; returns its exit status.

    Raises KeyboardInterrupt or SystemExit where it was asked to stop, once the engine has stopped.
    """
    return _run(command, env, cwd, None, None)


def capture(command: Sequence[str | Path], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run it with its output kept from the user. Raises as `show` does."""
    # Files, not pipes: writing to a pipe whose reader was killed would end the engine in the middle of its work.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        status = _run(command, env, cwd, out, err)
        return subprocess.CompletedProcess(list(map(str, command)), status, _read(out), _read(err))


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
