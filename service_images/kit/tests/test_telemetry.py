"""Spans of calls to models, according to OpenTelemetry's conventions."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.schemas import Schemas

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from kit import genai, telemetry
from kit.settings import ServiceSettings


def test_a_span_names_the_operation_and_the_model(spans: InMemorySpanExporter) -> None:
    with genai.span("embeddings", "m", {}, model="m") as span:
        genai.used(span, 3)
    (found,) = spans.get_finished_spans()
    assert found.name == "embeddings m"
    assert dict(found.attributes or {}) == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "cogniforge",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 3,
        "openinference.span.kind": "EMBEDDING",
        "embedding.model_name": "m",
        "llm.token_count.prompt": 3,
    }
    assert found.instrumentation_scope is not None and found.instrumentation_scope.schema_url == genai.REVISION


def test_all_names_are_those_of_the_pinned_revision() -> None:
    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    own = {value for name, value in vars(genai).items() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert len(own) > 10 and own <= known
    revisions = [tuple(map(int, one.value.rpartition("/")[2].split("."))) for one in Schemas]
    assert genai.REVISION.rpartition("/")[2] == ".".join(map(str, max(revisions)))


def test_no_other_module_spells_a_name_of_the_conventions() -> None:
    sources = Path(__file__).resolve().parents[2]
    spelled = {
        str(file.relative_to(sources))
        for file in sources.glob("*/src/**/*.py")
        if re.search(r"[\"']gen_ai\.|openinference", file.read_text())
    }
    assert spelled == {"kit/src/kit/genai.py"}


def test_an_error_is_recorded_in_the_span(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), genai.span("chat", "m", {}):
        raise KeyError("x")
    (found,) = spans.get_finished_spans()
    assert (found.attributes or {})["error.type"] == "KeyError"
    assert found.status.status_code is trace.StatusCode.ERROR


@pytest.mark.parametrize("parent", ["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"])
def test_baggage_and_state_from_outside_are_ignored(parent: str) -> None:
    headers = {"traceparent": parent, "baggage": "tenant=rival,admin=true", "tracestate": "vendor=x"}
    found = telemetry.from_outside(headers)
    assert dict(baggage.get_all(found)) == {}
    assert len(trace.get_current_span(found).get_span_context().trace_state) == 0


def test_services_pass_no_baggage_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "set_tracer_provider", lambda _: None)
    before = propagate.get_global_textmap()
    try:
        telemetry.configure_tracing(ServiceSettings(name="test"))
        sent: dict[str, str] = {}
        propagate.inject(sent, baggage.set_baggage("admin", "true"))
        assert sent == {}
    finally:
        propagate.set_global_textmap(before)
