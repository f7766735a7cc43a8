"""The remains of a killed engine are found and repaired before the next one starts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local.errors import LocalError
from local.toolchain import leftovers


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    state = tmp_path / ".pulumi" / "stacks" / "project" / "dev.json"
    state.parent.mkdir(parents=True)
    state.write_text('{"version": 3}')
    state.with_name("dev.json.bak").write_text('{"version": 3, "before": true}')
    return tmp_path


def _lock(backend: Path, pid: int, since: datetime | None = None, host: str | None = None) -> Path:
    file = backend / ".pulumi" / "locks" / "organization" / "project" / "dev" / f"{time.monotonic_ns()}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    stamp = (since or datetime.now(UTC)).isoformat().replace("+00:00", "789Z")  # nanoseconds, as Go writes them
    file.write_text(
        json.dumps({"pid": pid, "username": "u", "hostname": host or socket.gethostname(), "timestamp": stamp})
    )
    return file


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_lock_of_a_dead_process_is_removed(backend: Path) -> None:
    file = _lock(backend, _ended())
    assert leftovers.clear(backend) == []
    assert not file.exists()


def test_the_lock_of_a_living_process_is_kept_and_named(backend: Path) -> None:
    file = _lock(backend, os.getpid())
    held = leftovers.clear(backend)
    assert [(lock.pid, lock.stack) for lock in held] == [(os.getpid(), "dev")]
    assert file.exists()


def test_a_process_that_got_the_number_of_a_dead_one_holds_nothing(backend: Path) -> None:
    file = _lock(backend, os.getpid(), datetime.now(UTC) - timedelta(days=9))
    assert leftovers.clear(backend) == []
    assert not file.exists()


def test_the_lock_of_another_machine_is_kept(backend: Path) -> None:
    file = _lock(backend, 1, host="somewhere-else")
    assert [lock.host for lock in leftovers.clear(backend)] == ["somewhere-else"]
    assert file.exists()


def test_a_lock_that_was_cut_off_is_removed(backend: Path) -> None:
    file = _lock(backend, os.getpid())
    file.write_text('{"pid": 1')
    assert leftovers.clear(backend) == []
    assert not file.exists()


@pytest.mark.parametrize("cut", ["", '{"vers', "[]"])
def test_a_state_that_was_cut_off_is_the_one_before_it(backend: Path, cut: str) -> None:
    state = backend / ".pulumi" / "stacks" / "project" / "dev.json"
    state.write_text(cut)
    leftovers.clear(backend)
    assert json.loads(state.read_text())["before"] is True
    assert state.with_name("dev.json.broken").read_text() == cut


def test_a_state_without_one_before_it_is_reported_and_left_alone(backend: Path) -> None:
    state = backend / ".pulumi" / "stacks" / "project" / "dev.json"
    state.write_text("")
    state.with_name("dev.json.bak").unlink()
    with pytest.raises(LocalError, match="cannot be read"):
        leftovers.clear(backend)


def test_attributes_that_were_cut_off_do_not_hide_the_state(backend: Path) -> None:
    state = backend / ".pulumi" / "stacks" / "project" / "dev.json"
    broken, whole = state.with_name("dev.json.attrs"), state.with_name("dev.json.bak.attrs")
    broken.write_text("")
    whole.write_text('{"user.content_type": "application/json"}')
    leftovers.clear(backend)
    assert not broken.exists()
    assert whole.exists()


def test_nothing_is_repaired_while_an_engine_writes(backend: Path) -> None:
    _lock(backend, os.getpid())
    attributes = backend / ".pulumi" / "stacks" / "project" / "dev.json.attrs"
    attributes.write_text("")
    leftovers.clear(backend)
    assert attributes.exists()


def test_operations_under_way_are_read_from_the_state(backend: Path) -> None:
    state = backend / ".pulumi" / "stacks" / "project" / "dev.json"
    operations = [{"type": "creating", "resource": {"urn": "u"}}]
    state.write_text(json.dumps({"checkpoint": {"latest": {"pending_operations": operations}}}))
    assert leftovers.pending(backend, "dev") == operations
    assert leftovers.pending(backend, "other") == []


@pytest.mark.parametrize(
    ("url", "folder"),
    [("file:///a/b", Path("/a/b")), ("file:///a?no_tmp_dir=true", Path("/a")), ("s3://bucket", None), ("", None)],
)
def test_only_a_folder_of_this_machine_is_repaired(url: str, folder: Path | None) -> None:
    assert leftovers.folder_of(url) == folder
