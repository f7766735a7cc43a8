"""Which requests for models are traced: the platform or one of its services decides, never a client."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "router" / "src")]

from router.measure import Measures  # noqa: E402

from .conftest import Running, Says, until  # noqa: E402

TRACE = "0af7651916cd43dd8448eb211c80319c"
ANSWER = b'{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
Make = Callable[[float], tuple[Measures, InMemorySpanExporter]]


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Function that creates measures which record this share of the traces."""

    def make(ratio: float) -> tuple[Measures, InMemorySpanExporter]:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
        return Measures(tracing=True, logging=False, ratio=ratio), exporter

    return make


@pytest.mark.parametrize("flag", ["00", "01"])
@pytest.mark.parametrize(("ratio", "recorded"), [(0.0, 0), (1.0, 1)])
def test_a_clients_flag_does_not_decide(
    says: Callable[..., Says],
    running: Callable[..., Running],
    measures: Make,
    flag: str,
    ratio: float,
    recorded: int,
) -> None:
    model = says([ANSWER], headers={"content-type": "application/json"})
    router = running([model])
    router.core.measures, exporter = measures(ratio)
    outside = {"baggage": "tenant=rival", "tracestate": "vendor=x"}
    answer = router.ask(headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flag}", **outside})
    assert answer.status_code == 200
    sent = model.heads[-1]["traceparent"]
    assert sent.startswith(f"00-{TRACE}-") and sent.endswith(f"-0{recorded}")
    assert not outside.keys() & {name.lower() for name in model.heads[-1]}
    until(lambda: len(exporter.get_finished_spans()) == 2 * recorded, 5)  # the request and its call


@pytest.mark.parametrize(("inside", "ratio", "flag", "traced"), [
    (True, 0.0, b"01", True), (True, 1.0, b"00", False), (False, 0.0, b"01", False), (False, 1.0, b"00", True),
])  # fmt: skip
def test_a_services_decision_is_followed(measures: Make, inside: bool, ratio: float, flag: bytes, traced: bool) -> None:
    exchange: Any = SimpleNamespace(inside=inside, path_text="/v1/chat/completions", span=None)
    measures(ratio)[0].begin(exchange, b"00-%s-b7ad6b7169203331-%s" % (TRACE.encode(), flag))
    assert (exchange.span is not None) is traced
    assert exchange.traceparent.endswith(b"-01" if traced else b"-00")
    assert exchange.trace_id == TRACE.encode()


@pytest.mark.parametrize("inside", [True, False])
def test_a_request_from_outside_is_marked_as_the_entrance_and_its_verdict_recorded(
    measures: Make, inside: bool
) -> None:
    made, exporter = measures(1.0)
    exchange: Any = SimpleNamespace(
        inside=inside, path_text="/v1/chat/completions", span=None, operation="chat", model="demo", prompt_version="",
        used=None, first_token_s=None, verdicts={"input": "block"},
    )  # fmt: skip
    made.begin(exchange, b"00-%s-b7ad6b7169203331-01" % TRACE.encode())
    made._end_span(exchange, 400)
    (found,) = exporter.get_finished_spans()
    assert found.attributes is not None
    assert ("cogniforge.entrance" in found.attributes) is not inside
    assert found.attributes["cogniforge.guard.input"] == "block"
