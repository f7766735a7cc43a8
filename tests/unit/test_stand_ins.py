"""The stand-ins as processes: stopped at any moment after printing their port, they end without an error."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import provider_pb2_grpc

from local import paths
from tests.waiting import until

PROVIDERS = ("aws", "kubernetes", "random", "tls")
_ENGINE_WAITS_S = 5
"""Seconds after which the engine kills a plugin. Source: pulumi 3.259, sdk/go/common/resource/plugin/plugin.go."""


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
def test_a_plugin_stopped_right_after_printing_its_port_ends_without_an_error(module: str) -> None:
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


def _ended(module: str, *, cancelled: bool) -> tuple[int, str, str]:
    process, port = _started(module)
    if cancelled:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = provider_pb2_grpc.ResourceProviderStub(channel)
            stub.Cancel(empty_pb2.Empty(), wait_for_ready=True, timeout=_ENGINE_WAITS_S)
    process.send_signal(signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=_ENGINE_WAITS_S)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.mark.drill("resume")
@pytest.mark.parametrize(("module", "cancelled"), [("random", True), ("random", False), ("language", False)])
def test_no_signal_is_lost_in_200_starts_under_load(module: str, cancelled: bool) -> None:
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: _ended(module, cancelled=cancelled), range(200)))
    assert [one for one in ended if one != (0, "", "")] == []


def test_a_signal_that_arrives_before_the_wait_ends_it() -> None:
    """Python runs a signal handler at the main thread's next instruction, which never comes if the thread waits."""
    # Another thread receives the signal while the main thread is already waiting in the kernel.
    program = """
import os, signal, threading
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
from local.providers.ending import Ending
ended = Ending()
ended.on_signals()
def take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=take, daemon=True).start()
ended.wait()
"""
    result = subprocess.run([sys.executable, "-c", program], cwd=paths.PROJECT, timeout=30)
    assert result.returncode == 0


_STARTER = """
import subprocess, sys
process = subprocess.Popen([sys.executable, "-m", "local.providers." + sys.argv[1]], stdout=subprocess.PIPE, text=True)
process.stdout.readline()
print(process.pid, flush=True)
process.wait()
"""


@pytest.mark.parametrize("module", ["random", "language"])
def test_a_plugin_ends_with_the_engine_that_started_it(module: str) -> None:
    engine = subprocess.Popen(
        [sys.executable, "-c", _STARTER, module],
        cwd=paths.PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert engine.stdout is not None
    plugin = psutil.Process(int(engine.stdout.readline()))
    engine.kill()
    engine.wait()
    until(lambda: not plugin.is_running() or plugin.status() == psutil.STATUS_ZOMBIE, 30)
