"""A new environment whose first `forge up` is killed repeatedly: the next one continues, and completes it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from openai import OpenAI

from cli import stack
from local import paths
from local.toolchain import shim
from tests import waiting
from tests.e2e.conftest import FORGE, connected, forge

pytestmark = [pytest.mark.drill("first-up"), pytest.mark.timeout(1500)]
KILLS = int(os.environ.get("KILL_ROUNDS", "8"))
SEED = os.environ.get("KILL_SEED", "first-up")


def resources() -> int:
    """Number of resources in the state of the local environment; 0 without a state."""
    folder = shim.state_folder()
    assert folder is not None
    found = list(folder.glob(".pulumi/stacks/**/local.json"))
    try:
        checkpoint = json.loads(found[0].read_text())["checkpoint"]["latest"] if found else None
    except ValueError:  # the engine is writing the file
        return 0
    return len((checkpoint or {}).get("resources") or [])


def killed_at(count: int, log: Path) -> bool:
    """Kill an update's process group once its state has this many resources. Returns False if it ended before."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(FORGE), "up"], stdout=out, stderr=out, cwd=paths.PROJECT, start_new_session=True
        )
    waiting.until(lambda: process.poll() is not None or resources() >= count, seconds=400)
    ended = process.poll()
    if ended is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    assert ended == 0, log.read_text()
    return False


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory) -> list[bool]:
    """Recreate the environment with kills in between. Returns which of the kills met a running update."""
    whole = resources()
    assert whole > 100
    forge("destroy", "--yes")
    moments = sorted(random.Random(SEED).sample(range(2, whole), KILLS))
    log = tmp_path_factory.mktemp("killed") / "up.txt"
    hits = [killed_at(moment, log) for moment in moments]
    forge("up")
    assert resources() == whole
    return hits


def test_each_kill_met_an_update_that_was_running(continued: list[bool]) -> None:
    assert sum(continued) >= KILLS - 1


def test_the_environment_answers(continued: list[bool]) -> None:
    client: OpenAI = connected(stack.outputs("local"))
    model = client.models.list().data[0].id
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content


def test_nothing_is_missing_or_left_over(continued: list[bool]) -> None:
    assert forge("drift").returncode == 0
    assert "not ready" not in forge("status").stdout
