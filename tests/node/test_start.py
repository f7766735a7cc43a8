"""The first `forge up` of a test run: interrupted at every stage, and finally completed."""

from __future__ import annotations

import signal
import subprocess

import pytest

from local import paths
from tests.e2e.conftest import FORGE, forge
from tests.node import machine

pytestmark = pytest.mark.start


@pytest.fixture(scope="module", autouse=True)
def _remember_the_machine() -> None:
    machine.keep(None if paths.state().exists() else machine.snapshot())


@pytest.mark.parametrize("after_s", [1, 4, 12, 30])
def test_an_interrupted_up_ends_without_a_traceback(after_s: int) -> None:
    process = subprocess.Popen(
        [str(FORGE), "up"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=paths.PROJECT,
        # Background jobs ignore SIGINT; a user's shell would not start `forge` like that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        _, message = process.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=120)
        assert b"Traceback" not in message
    else:
        assert process.returncode == 0, message.decode()


@pytest.mark.timeout(1800)  # it builds every image while other tests run
def test_up_continues_after_an_interruption() -> None:
    assert "The platform is up" in forge("up").stdout
