"""Spans of calls to models, according to OpenTelemetry's conventions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from kit import telemetry


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def test_a_span_names_the_operation_and_the_model(spans: InMemorySpanExporter) -> None:
    with telemetry.genai("embeddings", "m", {"gen_ai.request.model": "m"}) as span:
        span.set_attribute("gen_ai.usage.input_tokens", 3)
    (found,) = spans.get_finished_spans()
    assert found.name == "embeddings m"
    assert dict(found.attributes or {}) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "cogniforge",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 3,
    }


def test_an_error_is_recorded_in_the_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), telemetry.genai("chat", "m", {}):
        raise KeyError("x")
    (found,) = spans.get_finished_spans()
    assert (found.attributes or {})["error.type"] == "KeyError"
    assert found.status.status_code is trace.StatusCode.ERROR
