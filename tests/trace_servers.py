"""The OpenTelemetry gateway on loopback, and services that record requests with the kit, as processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from components.config.traces import OTLP_GRPC_PORT, OTLP_PORT, Traces
from components.observability import trace_pipeline
from components.observability.trace_pipeline import Destination
from components.services.registry import SERVICES
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port
from tests.waiting import until

KIT = Path(__file__).resolve().parents[1] / "service_images" / "kit" / "src"
_PORTS = (OTLP_PORT, OTLP_GRPC_PORT, 4319, trace_pipeline.HEALTH_PORT, trace_pipeline.METRICS_PORT)
_SERVICE = """
import json, sys, time
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from kit import genai, telemetry
from kit.settings import ServiceSettings

name, endpoint = sys.argv[1:]
provider = telemetry.configure_tracing(ServiceSettings(name=name, otlp_endpoint=endpoint))
tracer = trace.get_tracer("test")
for number, line in enumerate(sys.stdin):
    wanted = json.loads(line)
    began = time.perf_counter()
    span = tracer.start_span(
        wanted.get("name", "POST /v1/chat/completions"),
        context=telemetry.from_outside(wanted.get("headers", {})),
        kind=SpanKind.SERVER,
        attributes={telemetry.ENTRANCE: True, "http.route": "/v1/chat/completions"},
        start_time=time.time_ns() - int(1e9 * wanted.get("seconds", 0)),
    )
    model = wanted.get("model", "demo")
    with trace.use_span(span, end_on_exit=False):
        with genai.span("chat", model, {}, model=model) as inner:
            inner.add_event(wanted.get("event", "event"), wanted.get("event_attributes", {}))
        time.sleep(wanted.get("streams", 0))
    span.set_attributes({genai.REQUEST_MODEL: model, **wanted.get("attributes", {})})
    if "error" in wanted:
        span.set_status(Status(StatusCode.ERROR, wanted["error"]))
    span.end()
    context = span.get_span_context()
    took = time.perf_counter() - began
    print(json.dumps([f"00-{context.trace_id:032x}-{context.span_id:016x}-01", took]), flush=True)
    if number % 200 == 199:
        provider.force_flush()
provider.shutdown()
"""
"""A service that answers a request for each line of its input, each with an inner span for a call of a model."""


@dataclass
class Gateway:
    """The gateway: it can be killed and started on its volume."""

    folder: Path
    destinations: Sequence[Destination]
    section: dict[str, Any] = field(default_factory=dict[str, Any])
    ports: dict[int, int] = field(default_factory=dict[int, int])
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """For services."""
        return f"http://127.0.0.1:{self.ports[OTLP_PORT]}"

    @property
    def queue(self) -> bytes:
        """Content of its queues on disk."""
        return b"".join(file.read_bytes() for file in (self.folder / "queue").glob("exporter_*"))

    def start(self) -> None:
        """Start it and wait until it is ready."""
        made = trace_pipeline.configuration(
            Traces.model_validate(self.section),
            trace_pipeline.slow_rules(SERVICES.values()),
            self.destinations,
            trace_pipeline.Place(str(self.folder), "127.0.0.1"),
        )
        text = json.dumps(made)
        for port in _PORTS:
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{self.ports.setdefault(port, free_port())}")
        self.folder.mkdir(exist_ok=True)
        (self.folder / "collector.json").write_text(text)
        command = [builder.resolve(ToolName.COLLECTOR), f"--config={self.folder}/collector.json"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        health = self.ports[trace_pipeline.HEALTH_PORT]
        until(lambda: _status(f"http://127.0.0.1:{health}/") == 200, 60, lambda: self.log[-3000:])

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def metrics(self) -> str:
        """Its page of metrics."""
        url = f"http://127.0.0.1:{self.ports[trace_pipeline.METRICS_PORT]}/metrics"
        return httpx.get(url, trust_env=False, timeout=20).text

    def values(self, name: str, **labels: str) -> list[float]:
        """Values of the series with this name and these labels."""
        lines = (line for line in self.metrics().splitlines() if re.match(rf"{name}[{{ ]", line))
        chosen = (line for line in lines if all(f'{key}="{value}"' in line for key, value in labels.items()))
        return [float(line.rsplit(" ", 1)[1]) for line in chosen]

    def decided(self) -> dict[str, int]:
        """Number of requests by the reason of the decision."""
        found = re.findall(
            r'^otelcol_request_sampling_requests_total\{.*reason="(\w+)".*\} (\S+)$', self.metrics(), re.M
        )
        return {reason: int(float(value)) for reason, value in found}


@dataclass
class Service:
    """A service that sends its spans to an endpoint."""

    name: str
    endpoint: str
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVICE, self.name, self.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(KIT)},
        )

    def answer(self, **request: Any) -> tuple[str, float]:
        """(traceparent of the request's span, seconds that the request took)."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        parent, seconds = json.loads(self.process.stdout.readline())
        return parent, seconds

    def end(self) -> None:
        """End it as Kubernetes does, after its spans have been sent."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code
    except httpx.HTTPError:
        return 0
