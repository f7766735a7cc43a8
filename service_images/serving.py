"""Servers that tests run on loopback for a while."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx


@contextlib.contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Port on loopback at which the handler answers during the block, each connection in a thread of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def served(
    command: Sequence[str | Path], own: Mapping[str, str], ready: str, starts_s: float, ends_s: float = 15
) -> Iterator[int]:
    """Process ID of a server with its `own` environment variables, which answers 200 at `ready` during the block.

    Fails with the end of the server's log if it is not ready within `starts_s` seconds.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + starts_s
            while not _answers(ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(f"{command[0]} has not started: {log.read().decode()[-2000:]}")
                time.sleep(0.1)
            yield process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ends_s)
            process.kill()
            process.wait()


def _answers(address: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(address, trust_env=False, timeout=10).status_code == 200
    return False
