"""Which drills run, and in which order."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local import paths
from local.toolchain import builder
from local.toolchain.tools import TOOLS, ToolName
from tests.drills import DRILLS, Drill, files, fitting, order, runs, with_builds
from tests.waiting import until


@given(st.integers(0, 10_000))
def test_every_drill_is_in_the_order_once_and_the_last_one_is_last(turn: int) -> None:
    ordered = order([], turn)
    assert sorted(d.name for d in ordered) == sorted(d.name for d in DRILLS)
    assert ordered[-1].last


def test_every_drill_has_its_turn_to_be_the_first() -> None:
    usual = [d for d in DRILLS if not d.last]
    assert {order([], turn)[0].name for turn in range(len(usual))} == {d.name for d in usual}


@given(st.integers(0, 10_000))
def test_changed_paths_come_first(turn: int) -> None:
    assert order(["local/images/engine.py", "README.md"], turn)[0].name == "images"


@given(st.integers(0, 100), st.floats(0, 200))
def test_the_selected_drills_fit_the_time_and_the_environment_is_always_removed(turn: int, minutes: float) -> None:
    chosen = fitting(order([], turn), minutes)
    usual = [d for d in chosen if not d.last]
    assert [d for d in chosen if d.last] == [d for d in DRILLS if d.last]
    assert not usual or sum(d.minutes for d in chosen) <= minutes


@given(st.integers(0, 100), st.floats(0, 200), st.floats(0, 3))
def test_nothing_runs_once_the_environment_is_removed(turn: int, minutes: float, slowness: float) -> None:
    spent: list[float] = []
    ran: list[str] = []
    for drill in runs(order([], turn), lambda: minutes - sum(spent)):
        assert not any(d.last and d.name in ran for d in DRILLS) or drill.last
        ran.append(drill.name)
        spent.append(drill.minutes * slowness)
    assert {d.name for d in DRILLS if d.last} <= set(ran)
    assert len(ran) == len(set(ran))


def test_sources_of_drills_exist() -> None:
    folders = ("cli", "components", "local", "service_images", "stacks")
    files = [file for folder in folders for file in (paths.PROJECT / folder).rglob("*")]
    tracked = [str(file.relative_to(paths.PROJECT)) for file in files]
    for drill in DRILLS:
        for source in drill.sources:
            assert any(file.startswith(source.rstrip("/")) for file in tracked), (drill.name, source)


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: drill.name)
def test_a_drill_has_tests(drill: Drill) -> None:
    assert files(drill.name)


def test_marks_are_written_as_the_run_looks_for_them() -> None:
    sources = [path for folder in ("tests", "service_images") for path in (paths.PROJECT / folder).rglob("test_*.py")]
    marks = [mark for path in sources for mark in re.findall(r"\bmark\.drill\(([^)]*)\)", path.read_text())]
    assert {mark.strip('"') for mark in marks} == {drill.name for drill in DRILLS}
    assert [mark for mark in marks if not re.fullmatch(r'"[a-z-]+"', mark)] == []


def test_a_drill_takes_longer_where_its_tools_are_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    drill = next(drill for drill in DRILLS if drill.name == "prometheus")
    built = tmp_path / "prometheus"
    monkeypatch.setattr(builder, "cached_path", lambda _: built)
    assert with_builds(drill).minutes == drill.minutes + TOOLS[ToolName.PROMETHEUS].expected_s / 60
    built.touch()
    assert with_builds(drill) == drill


_PARENT = "import sys; from tests.drills import supervised; sys.exit(supervised([sys.executable, '-c', sys.argv[1]]))"
_CHILD = """
import pathlib, signal, time
said = pathlib.Path({said!r})
try:
    said.write_text("running")
    time.sleep(60)
except KeyboardInterrupt:
    said.write_text("cleaned up")
"""


def test_a_terminated_run_of_drills_ends_its_tests_first(tmp_path: Path) -> None:
    said = tmp_path / "said"
    child = _CHILD.format(said=str(said))
    with subprocess.Popen([sys.executable, "-c", _PARENT, child], cwd=paths.PROJECT) as running:
        until(lambda: said.exists() and said.read_text() == "running")
        running.terminate()
        assert running.wait(30) == 128 + signal.SIGTERM
    assert said.read_text() == "cleaned up"
