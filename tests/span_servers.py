"""Jaeger on loopback: the real binary with what the component renders for it, and services that trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from components.config.traces import Traces
from components.observability import jaeger
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.waiting import until

SOURCES = Path(__file__).resolve().parents[1] / "service_images"
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
class JaegerServer:
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
