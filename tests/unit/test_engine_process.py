"""The engine gets one stop signal and time to end, whatever happens to the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local import paths
from tests.waiting import until

# Double of the engine: counts signals, and ends normally a moment after the first one.
_ENGINE = """
import signal, sys, time
from pathlib import Path
signals = []
signal.signal(signal.SIGINT, lambda *_: signals.append(1))
log = Path(sys.argv[1])
log.write_text("ready")
while not signals:
    time.sleep(0.02)
for _ in range(25):
    print("still working", flush=True)
    time.sleep(0.02)
log.write_text(f"signals {len(signals)}")
"""
_FORGE = """
import os, sys
from pathlib import Path
from local.toolchain import engine_process
command = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
if sys.argv[3] == "capture":
    engine_process.capture(command, os.environ, Path("/"))
else:
    engine_process.show(command, os.environ, Path("/"))
"""


class Started:
    """A `forge` with an engine below it."""

    def __init__(self, log: Path, way: str) -> None:
        self.log = log
        command = [sys.executable, "-c", _FORGE, str(log), _ENGINE, way]
        self.forge = subprocess.Popen(
            command, cwd=paths.PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        until(lambda: log.exists() and log.read_text() == "ready")
        self.engine = psutil.Process(self.forge.pid).children()[0]

    def ended(self) -> str:
        """The engine's record at its end."""
        return until(lambda: self.log.read_text() if self.log.read_text().startswith("signals") else None)


@pytest.mark.parametrize("way", ["capture", "show"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_engine_in_order(tmp_path: Path, number: signal.Signals, way: str) -> None:
    started = Started(tmp_path / "log", way)
    started.forge.send_signal(number)
    _, message = started.forge.communicate(timeout=60)
    assert started.log.read_text() == "signals 1", "forge ends after the engine"
    assert started.forge.returncode == (-signal.SIGINT if number is signal.SIGINT else 128 + number)
    assert (b"KeyboardInterrupt" in message) == (number is signal.SIGINT)


def test_a_closed_terminal_reaches_the_engine_once(tmp_path: Path) -> None:
    started = Started(tmp_path / "log", "capture")
    os.killpg(started.forge.pid, signal.SIGHUP)  # as the kernel signals the foreground of a terminal
    started.forge.wait(60)
    assert started.log.read_text() == "signals 1"


def test_a_killed_forge_lets_the_engine_finish(tmp_path: Path) -> None:
    started = Started(tmp_path / "log", "capture")
    started.forge.kill()
    started.forge.wait(60)
    assert started.ended() == "signals 1"


def test_the_output_is_kept_apart() -> None:
    from local.toolchain import engine_process

    script = "import sys; print('to the user'); print('of the engine', file=sys.stderr); raise SystemExit(3)"
    result = engine_process.capture([sys.executable, "-c", script], os.environ, Path("/"))
    assert (result.returncode, result.stdout, result.stderr) == (3, "to the user\n", "of the engine\n")
