"""The simulated model server stays within its pod's memory for any bodies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from components.ai.model_server import KEY_FILE_VARIABLE, simulator
from components.config.base import quantity
from components.config.models import Model
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from service_images.serving import served

pytestmark = pytest.mark.contract
MODEL = Model(name="demo")


@dataclass
class Server:
    """A running simulator."""

    url: str
    process: int

    def most_memory(self) -> int:
        """Growth of resident memory in bytes since the start."""
        status = Path(f"/proc/{self.process}/status").read_text()
        found = re.search(r"VmHWM:\s*(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def ask(self, message: str, count: int) -> int:
        """Status of the answer to a request with this number of messages."""
        body = {"model": "demo", "messages": [{"role": "user", "content": message}] * count, "max_tokens": 4}
        headers = {"authorization": "Bearer key"}
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)
        return answer.status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    intent = simulator(MODEL)
    port = free_port()
    arguments = [f"--port={port}" if name.startswith("--port=") else name for name in intent.arguments]
    key = tmp_path_factory.mktemp("secrets") / "key"
    key.write_text("key")
    environment = {**intent.environment, KEY_FILE_VARIABLE: str(key)}
    command = [builder.resolve(ToolName.INFERENCE_SIM), *arguments]
    url = f"http://127.0.0.1:{port}"
    with served(command, environment, f"{url}/health", starts_s=30) as process:
        yield Server(url, process)


@pytest.mark.parametrize("size", [7_000, 30_000, 500_000])
@pytest.mark.parametrize("word", ["ab ", "[-", "x" * 5000])
def test_bodies_at_once_fit_into_the_pod(server: Server, word: str, size: int) -> None:
    with ThreadPoolExecutor(24) as callers:
        statuses = set(callers.map(lambda _: server.ask(word * (size // len(word)), 1), range(24)))
    assert statuses <= {200, 400}
    assert server.most_memory() < quantity(MODEL.resources.memory)


def test_a_body_that_is_too_large_is_refused_without_being_kept(server: Server) -> None:
    with ThreadPoolExecutor(4) as callers:
        statuses = set(callers.map(lambda _: server.ask("x" * 70_000, 100), range(8)))
    assert statuses == {413}
    assert server.most_memory() < quantity(MODEL.resources.memory)
