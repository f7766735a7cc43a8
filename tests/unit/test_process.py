"""Servers of the node: started once, found again, and ended by their own process ID only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local import paths
from local.errors import LocalError
from local.node.process import Process


def _process(tmp_path: Path, *command: str) -> Process:
    return Process("test", command, tmp_path / "pids", tmp_path / "logs")


def test_a_process_is_started_once_and_found_again(tmp_path: Path) -> None:
    process = _process(tmp_path, "sleep", "60")
    assert process.start()
    pid = process.running().pid
    assert not _process(tmp_path, "sleep", "60").start()
    assert _process(tmp_path, "sleep", "60").running().pid == pid
    assert process.stop()


def test_a_changed_command_restarts_the_process(tmp_path: Path) -> None:
    first = _process(tmp_path, "sleep", "60")
    first.start()
    pid = first.running().pid
    second = _process(tmp_path, "sleep", "61")
    assert second.start()
    assert second.running().pid != pid
    second.stop()


def test_a_reused_pid_is_not_taken_for_the_process(tmp_path: Path) -> None:
    process = _process(tmp_path, "sleep", "60")
    paths.write_private(tmp_path / "pids" / "test.json", f'{{"pid": {os.getpid()}, "born": "a boot 1", "command": []}}')
    assert process.running() is None
    assert not process.stop(), "a stranger is never ended"


_STARTER = """
import os, subprocess, sys
from pathlib import Path
from local.node.process import Process


class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        os._exit(9)


subprocess.Popen = Popen
Process("test", ["sleep", "60"], Path(sys.argv[1]) / "pids", Path(sys.argv[1]) / "logs").start()
"""


def test_a_process_is_found_after_its_parent_has_died(tmp_path: Path) -> None:
    starter = subprocess.run([sys.executable, "-c", _STARTER, str(tmp_path)], cwd=paths.PROJECT)
    assert starter.returncode == 9
    process = _process(tmp_path, "sleep", "60")
    try:
        assert process.up_to_date()
    finally:
        assert process.stop()


def test_a_process_that_ignores_term_is_killed(tmp_path: Path) -> None:
    process = _process(
        tmp_path, sys.executable, "-c", "import signal,time; signal.signal(15, 1); print(1); time.sleep(60)"
    )
    process.start()
    live = process.running()
    process.stop(grace_s=0.5)
    assert not live.is_running() or live.status() == "zombie"


def test_a_process_that_dies_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    process = _process(tmp_path, sys.executable, "-c", "raise SystemExit('no such flag')")
    process.start()
    with pytest.raises(LocalError, match="no such flag"):
        for _ in range(100):
            process.require_running()
            threading.Event().wait(0.1)
