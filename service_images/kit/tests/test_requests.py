"""Metrics and traces of every REST service's requests."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).parent))

import hanging_up
from kit import app, telemetry
from kit.settings import ServiceSettings

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def _thing(_: Request) -> Response:
    return JSONResponse({})


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], tuple[TestClient, InMemorySpanExporter]]]:
    """Function that creates an application which records this share of its traces."""

    def make(ratio: float) -> tuple[TestClient, InMemorySpanExporter]:
        kept: list[TracerProvider] = []
        with monkeypatch.context() as patch:
            patch.setattr(trace, "set_tracer_provider", kept.append)
            settings = ServiceSettings(name="things", trace_sample_ratio=ratio)
            telemetry.configure_tracing(settings)
        exporter = InMemorySpanExporter()
        kept[0].add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "get_tracer", kept[0].get_tracer)
        return TestClient(app.create([Route("/v1/things", _thing, methods=["GET", "POST"])], {})), exporter

    monkeypatch.setattr(telemetry, "_OUTSIDE", {"ratio": 1.0})
    yield make


def _methods() -> set[str]:
    return {sample.labels["method"] for metric in telemetry.REQUESTS.collect() for sample in metric.samples}


def test_methods_that_clients_make_up_share_one_label(service: Callable[[float], tuple[TestClient, object]]) -> None:
    client, _ = service(1.0)
    client.get("/v1/things")
    before = _methods()
    for number in range(50):
        assert client.request(f"MADE-UP-{number}", "/v1/things").status_code == 405
        assert client.request(f"MADE-UP-{number}", "/nowhere").status_code == 404
    client.request("get", "/v1/things")
    assert "GET" in before
    assert _methods() - before <= {"_OTHER"}
    assert "_OTHER" in _methods()


@pytest.mark.parametrize("flag", ["00", "01", "ff"])
@pytest.mark.parametrize("name", ["0" * 31 + "1", TRACE, "f" * 32])
def test_whether_a_trace_is_recorded_is_not_the_clients_choice(
    service: Callable[[float], tuple[TestClient, InMemorySpanExporter]], flag: str, name: str
) -> None:
    headers = {"traceparent": f"00-{name}-b7ad6b7169203331-{flag}"}
    client, exporter = service(0.0)
    assert client.get("/v1/things", headers=headers).status_code == 200
    assert not exporter.get_finished_spans()
    client, exporter = service(1.0)
    client.get("/v1/things", headers=headers)
    (span,) = exporter.get_finished_spans()
    assert span.context is not None and f"{span.context.trace_id:032x}" == name
    assert span.parent is not None and f"{span.parent.span_id:016x}" == "b7ad6b7169203331"


@pytest.mark.parametrize("header", ["", "00-xyz", f"00-{'0' * 32}-b7ad6b7169203331-01", f"ff-{TRACE}-{'0' * 16}-01"])
def test_a_request_without_a_valid_trace_begins_its_own(
    service: Callable[[float], tuple[TestClient, InMemorySpanExporter]], header: str
) -> None:
    client, exporter = service(1.0)
    assert client.get("/v1/things", headers={"traceparent": header}).status_code == 200
    (span,) = exporter.get_finished_spans()
    assert span.parent is None


async def _reads(request: Request) -> Response:
    await request.body()
    return JSONResponse({})


def test_a_client_that_disconnects_within_its_body_is_no_server_error() -> None:
    """Otherwise a tenant that disconnects would use up the service's error budget, and fill the log with tracebacks."""
    application = app.create([Route("/v1/things", _reads, methods=["POST"])], {})
    assert hanging_up.status(application, "POST", "/v1/things") == 499


_LOGGING = """
from kit import logs
from kit.settings import ServiceSettings
logs.configure(ServiceSettings(name="things"))
def fail(key):
    raise ValueError(f"of {len(key)} characters")
try:
    fail("cf-the-key-of-a-" + "tenant")
except ValueError as error:
    logs.get("test").error("unexpected error", exc_info=error)
"""


def test_a_logged_error_has_no_values_of_variables() -> None:
    """Local variables contain keys and tenants' data."""
    source = {"PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    recorded = subprocess.run([sys.executable, "-c", _LOGGING], capture_output=True, text=True, env=source, check=True)
    assert json.loads(recorded.stdout)["exception"][0]["exc_type"] == "ValueError"
    assert "cf-the-key-of-a-tenant" not in recorded.stdout
