"""VictoriaLogs and the collector on loopback: the real binaries, with what the components render for them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cli.log_lines import Store
from components.config.logs import Logs
from components.observability import log_pipeline
from components.observability.log_names import USER
from components.observability.log_query import LogLine, LogQuery, VictoriaLogs
from components.observability.log_store import arguments, basic
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.waiting import until

PASSWORD = "a-password-of-this-test"
HOUR = timedelta(hours=1)


@dataclass
class VictoriaLogsServer:
    """The store: it can be stopped and started on its data."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base of its URLs."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def authorization(self) -> str:
        """Value of the header."""
        return basic(USER, PASSWORD)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        password = self.folder / "password"
        password.write_text(PASSWORD)
        given = arguments(Logs(), str(self.folder / "data"), str(password))
        listening = [f"-httpListenAddr=127.0.0.1:{self.port}" if "-httpListenAddr" in one else one for one in given]
        with (self.folder / "log").open("ab") as output:
            command = [str(builder.resolve(ToolName.VICTORIALOGS)), *listening]
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        until(self._answers, 60, (self.folder / "log").read_text)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, *, kill: bool = False) -> None:
        """End it: as Kubernetes does, or with SIGKILL."""
        if self.process:
            (self.process.kill if kill else self.process.terminate)()
            self.process.wait(30)
            self.process = None

    def insert(self, lines: Iterable[dict[str, Any]]) -> None:
        """Insert lines as JSON, past the collector."""
        body = "".join(json.dumps(line) + "\n" for line in lines)
        answer = httpx.post(f"{self.url}/insert/jsonline", content=body, headers={"Authorization": self.authorization})
        assert answer.status_code == 200, answer.text


@contextmanager
def victoria_logs(folder: Path) -> Generator[tuple[VictoriaLogsServer, Store]]:
    """A store and its client."""
    server = VictoriaLogsServer(folder)
    server.start()
    try:
        headers = {"Authorization": server.authorization}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=60) as client:
            yield server, Store(VictoriaLogs(), client)
    finally:
        server.stop(kill=True)


@dataclass
class Collector:
    """The collector, without an API server of Kubernetes: a service has the name of its container."""

    folder: Path
    pods: Path
    store: VictoriaLogsServer
    process: subprocess.Popen[bytes] | None = None
    health: int = field(default_factory=free_port)

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.folder.mkdir(exist_ok=True)
        login = self.folder / "authorization"
        login.write_text(self.store.authorization)
        destination = log_pipeline.Destination(
            f"{self.store.url}/insert/opentelemetry/v1/logs", {"Authorization": f"${{file:{login}}}"}
        )
        content = log_pipeline.configuration(
            destination,
            ["cogniforge"],
            folder=str(self.pods),
            state=str(self.folder / "state"),
            kubernetes=False,
            health=f"127.0.0.1:{self.health}",
        )
        (self.folder / "collector.json").write_text(json.dumps(content))
        command = [str(builder.resolve(ToolName.COLLECTOR)), f"--config={self.folder / 'collector.json'}"]
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [*command, f"--feature-gates={log_pipeline.FEATURE_GATES}"], stdout=output, stderr=output
            )
        until(self._ready, 60, (self.folder / "log").read_text)

    def _ready(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.folder / "log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{self.health}/").status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@dataclass
class PodLog:
    """The log of a container, as containerd writes it."""

    file: Path

    def write(self, *lines: str, at: datetime | None = None, stream: str = "stdout") -> None:
        """Append lines, each in pieces of at most 16 KiB."""
        stamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        text = b""
        for line in lines:
            content = line.encode()
            pieces = [content[n : n + 16384] for n in range(0, len(content), 16384)] or [b""]
            for number, piece in enumerate(pieces, 1):
                mark = "F" if number == len(pieces) else "P"
                text += f"{stamp} {stream} {mark} ".encode() + piece + b"\n"
        with self.file.open("ab") as output:
            output.write(text)
            output.flush()
            os.fsync(output.fileno())


def pod_log(pods: Path, service: str, namespace: str = "cogniforge", pod: str = "") -> PodLog:
    """A container's log below a folder that is laid out like the kubelet's."""
    uid = f"{abs(hash((namespace, service, pod))):032x}"[:32]
    uid = "-".join((uid[:8], uid[8:12], uid[12:16], uid[16:20], uid[20:]))
    folder = pods / f"{namespace}_{pod or f'{service}-0'}_{uid}" / service
    folder.mkdir(parents=True)
    return PodLog(folder / "0.log")


def recent(**wanted: Any) -> LogQuery:
    """A question about the last hour."""
    return LogQuery(datetime.now(UTC) - HOUR, **{"limit": 1000, **wanted})


def texts(lines: Sequence[LogLine]) -> list[str]:
    """Texts of lines."""
    return [line.text for line in lines]
