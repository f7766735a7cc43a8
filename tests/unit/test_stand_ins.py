"""The stand-ins as processes: told to stop at any moment after they gave their port, they stop without an error."""

from __future__ import annotations

import signal
import subprocess
import sys

import grpc
import psutil
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2_grpc

from local import paths
from tests.waiting import until

PROVIDERS = ("aws", "kubernetes", "random", "tls")


def _started(module: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"local.providers.{module}"],
        cwd=paths.PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.mark.parametrize("module", [*PROVIDERS, "language"])
def test_a_plugin_that_is_told_to_stop_right_after_its_port_ends_quietly(module: str) -> None:
    for _ in range(3):
        process, _ = _started(module)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, output, errors) == (0, "", "")


def test_a_plugin_acknowledges_that_it_is_cancelled_before_it_ends() -> None:
    """Without the acknowledgement, the engine reports that the plugin has "exited prematurely"."""
    process, port = _started("random")
    stub = provider_pb2_grpc.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    stub.Cancel(empty_pb2.Empty(), wait_for_ready=True, timeout=30)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


_STARTER = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "local.providers.random"], stdout=subprocess.PIPE, text=True)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


def test_a_plugin_ends_with_the_engine_that_started_it() -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", _STARTER], cwd=paths.PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    plugin = psutil.Process(int(engine.stdout.readline()))
    engine.kill()
    engine.wait()
    until(lambda: not plugin.is_running() or plugin.status() == psutil.STATUS_ZOMBIE, 30)
