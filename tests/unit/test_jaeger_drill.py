"""Drill of Jaeger: the real server with the platform's configuration keeps what real services have traced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli import spans as spans_of
from components.config.traces import Traces
from components.observability import jaeger
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.waiting import until

pytestmark = [pytest.mark.drill("traces"), pytest.mark.xdist_group("traces")]
SOURCES = Path(__file__).resolve().parents[2] / "service_images"
FOUND_S = 15
"""Seconds from the end of a trace until it is found."""
TELL = """
import sys
from opentelemetry import trace
from kit import genai, telemetry
from kit.settings import ServiceSettings

name, endpoint, parent = sys.argv[1:]
provider = telemetry.configure_tracing(ServiceSettings(name=name, otlp_endpoint=endpoint))
from opentelemetry import propagate
with trace.get_tracer("test").start_as_current_span("outer", context=propagate.extract({"traceparent": parent})):
    with genai.span("chat", "demo", {}, model="demo") as span:
        genai.used(span, 12, 34)
    print(telemetry.traceparent())
provider.shutdown()
"""
"""A service that records a trace and ends. It prints the traceparent of its outer span."""


@dataclass
class Server:
    """A Jaeger process on its own folder and ports."""

    folder: Path
    days: int = 3
    ports: dict[int, int] = field(default_factory=dict[int, int])
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start the server; existing spans are kept. Returns the seconds until it was ready."""
        text = json.dumps(jaeger.configuration(Traces(keep_days=self.days), str(self.folder / "data"), "127.0.0.1"))
        for port in (jaeger.OTLP_PORT, jaeger.QUERY_PORT, jaeger.METRICS_PORT, 13133, 16685):
            text = text.replace(str(port), str(self.ports.setdefault(port, free_port())))
        (self.folder / "jaeger.json").write_text(text)
        began = time.monotonic()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [builder.resolve(ToolName.JAEGER), f"--config=file:{self.folder}/jaeger.json"],
                stdout=log,
                stderr=log,
            )
        ready = lambda: self.get(13133, "/status").status_code == 200  # noqa: E731
        until(ready, 60, lambda: (self.folder / "log").read_text()[-2000:])
        return time.monotonic() - began

    def get(self, port: int, path: str) -> httpx.Response:
        """Answer of one of its ports; 503 while there is none."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[port]}{path}", trust_env=False, timeout=10)
        except httpx.HTTPError:
            return httpx.Response(503)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def tell(self, service: str, parent: str = "") -> str:
        """Record a trace as a service does. Returns the traceparent of its outer span."""
        command = [sys.executable, "-c", TELL, service, f"http://127.0.0.1:{self.ports[jaeger.OTLP_PORT]}", parent]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SOURCES / "kit" / "src")}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def trace(self, traceparent: str) -> dict[str, Any]:
        """Answer of the query API about a trace."""
        answer = self.get(jaeger.QUERY_PORT, f"/api/traces/{traceparent.split('-')[1]}")
        return answer.json() if answer.status_code == 200 else {"data": []}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    made.start()
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()


def test_one_trace_of_two_services_is_found_in_time(server: Server) -> None:
    outer = server.tell("router")
    ended = time.monotonic()
    server.tell("guardrails", outer)
    until(lambda: len(spans_of.read(server.trace(outer))) == 4, FOUND_S)
    assert time.monotonic() - ended < FOUND_S
    found = spans_of.read(server.trace(outer))
    assert [(one.service, one.name, one.depth) for one in found] == [
        ("router", "outer", 0),
        ("router", "chat demo", 1),
        ("guardrails", "outer", 1),
        ("guardrails", "chat demo", 2),
    ]
    tags = {tag["key"]: tag["value"] for span in server.trace(outer)["data"][0]["spans"] for tag in span["tags"]}
    assert tags["gen_ai.usage.output_tokens"] == 34 and tags["openinference.span.kind"] == "LLM"


def test_spans_outlive_a_kill(server: Server) -> None:
    outer = server.tell("router")
    until(lambda: len(spans_of.read(server.trace(outer))) == 2, FOUND_S)
    server.kill()
    assert server.start() < 30
    until(lambda: len(spans_of.read(server.trace(outer))) == 2, FOUND_S)


def test_a_service_answers_while_jaeger_is_away_and_its_spans_are_lost_only(server: Server) -> None:
    server.kill()
    began = time.monotonic()
    outer = server.tell("router")
    assert time.monotonic() - began < 60, "the service has ended without Jaeger"
    server.start()
    assert spans_of.read(server.trace(outer)) == []
    later = server.tell("router")
    until(lambda: len(spans_of.read(server.trace(later))) == 2, FOUND_S)


def test_its_metrics_are_exported(server: Server) -> None:
    server.tell("router")
    wanted = "otelcol_receiver_accepted_spans"
    until(lambda: wanted in server.get(jaeger.METRICS_PORT, "/metrics").text, 30)
