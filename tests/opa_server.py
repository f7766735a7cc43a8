"""OPA on loopback: the real binary, with bundles of a configuration and keys made for the test."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components.config.parse import parse
from components.config.platform import PlatformConfig
from components.mesh import entrance
from components.security import policy_bundle, policy_data
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.unit.test_platform import stack_file
from tests.waiting import until

Json = dict[str, Any]


def program() -> Path:
    """The binary; `forge tools --tests` has built it."""
    return builder.resolve(ToolName.OPA)


@dataclass(frozen=True)
class KeyPair:
    """A key that signs bundles."""

    private: str
    public: str


@functools.cache
def key_pair(_name: str) -> KeyPair:
    """The same key for the same name."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(private.decode(), public.decode())


def configuration(opa: Json | None = None, **sections: Any) -> PlatformConfig:
    """The local stack's configuration with OPA."""
    return parse(stack_file("local") | {"security": {"opa": opa or {}}} | sections)


def installation(config: PlatformConfig) -> Json:
    """Data of the policies."""
    assert config.security.opa is not None
    return policy_data.installation(config, config.security.opa, entrance.intent(config))


def operations(config: PlatformConfig) -> list[policy_data.Operation]:
    """All operations at the gateway."""
    return policy_data.operations(config, entrance.intent(config))


def bundle(config: PlatformConfig, rules: Mapping[str, str] | None = None, key: str = "platform") -> bytes:
    """The signed bundle of a configuration."""
    return policy_bundle.build(policy_bundle.contents(installation(config), rules or {}), key_pair(key).private)


def request(method: str, path: str, scopes: Iterable[str] | None = (), **more: Any) -> Json:
    """Input of a decision, as the server makes it; without a key where `scopes` is None."""
    caller = {} if scopes is None else {"key": True, "caller": {"tenant": "acme", "id": "k1", "scopes": [*scopes]}}
    segments = path.removeprefix("/").split("/")
    known = {"method": method, "target": path, "path": segments, "time": 0, "anthropic": False, "directory": True}
    return {**known, **caller, **more}


def decisions(content: bytes, asked: Iterable[Json], folder: Path, public: str = "") -> list[Json]:
    """The decision for each input. With a public key, the bundle's signature is checked."""
    done = decide(content, asked, folder, public)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def decide(content: bytes, asked: Iterable[Json], folder: Path, public: str = "") -> subprocess.CompletedProcess[str]:
    """Run `opa decide`."""
    file, key = folder / policy_bundle.FILE, folder / "key.pem"
    file.write_bytes(content)
    key.write_text(public)
    command = [str(program()), "decide", f"-bundle={file}", *([f"-key={key}"] if public else [])]
    lines = "".join(json.dumps(one) + "\n" for one in asked)
    return subprocess.run(command, input=lines, capture_output=True, text=True, timeout=60)


@dataclass(frozen=True)
class Server:
    """OPA that runs."""

    grpc_port: int
    http_port: int
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self) -> bool:
        """Whether it can decide."""
        return self.why_not_ready() == ""

    def why_not_ready(self) -> str:
        """Why it cannot decide; empty if it can."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.http_port}/readyz", timeout=5)
        except httpx.HTTPError as error:
            return str(error) or type(error).__name__
        return "" if answer.status_code == 200 else answer.text.strip()

    def metrics(self) -> str:
        """Its metrics, in Prometheus' format."""
        return httpx.get(f"http://127.0.0.1:{self.http_port}/metrics", timeout=5).text

    def lines(self) -> list[Json]:
        """Its log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def serving(
    folder: Path, *more: str, wait: bool = True, bundle: str = "", ports: tuple[int, int] | None = None
) -> Generator[Server]:
    """OPA with the bundle in `folder/policy`, or at the URL `bundle`, once the bundle is in force."""
    key, copies, log = folder / "key.pem", folder / "copy", folder / "opa.log"
    key.write_text(key_pair("platform").public)
    copies.mkdir(exist_ok=True)
    ports = ports or (free_port(), free_port())
    command = [
        *(str(program()), "serve", f"-bundle={bundle or folder / 'policy'}", f"-key={key}", f"-copy={copies}"),
        *(f"-grpc=127.0.0.1:{ports[0]}", f"-http=127.0.0.1:{ports[1]}", "-poll=1s", *more),
    ]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    found = Server(*ports, process, log)
    try:
        if wait:
            until(lambda: found.ready() or process.poll() is not None, 30, log.read_text)
            assert process.poll() is None, log.read_text()
        yield found
    finally:
        process.kill()
        process.wait(20)


def put(folder: Path, content: bytes) -> None:
    """Place a bundle in `folder/policy`, whole at once as a mounted volume does."""
    place = folder / "policy"
    place.mkdir(exist_ok=True)
    fresh = place / "fresh"
    fresh.write_bytes(content)
    fresh.rename(place / policy_bundle.FILE)


@contextmanager
def nats(folder: Path) -> Generator[str]:
    """A NATS server with JetStream; its URL."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("nats-server")), "-a", "127.0.0.1", "-p", str(port), "-js"]
    with (folder / "nats.log").open("wb") as output:
        process = subprocess.Popen([*command, "-sd", str(folder / "nats")], stdout=output, stderr=output)
    try:
        until(lambda: "Server is ready" in (folder / "nats.log").read_text(), 20)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(20)
