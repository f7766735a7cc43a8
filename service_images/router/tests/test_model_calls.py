"""Spans of calls of models: one for each attempt, below the request's, and who learns of the trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from router.measure import Measures

from .conftest import Running, Says, Target, until
from .test_outside import COMPLETION, body_of, outside, secret
from .test_resilience import asked_until
from .test_traces import TRACE, measures

__all__ = ["measures", "outside", "secret"]
Targets = Callable[[int], list[Target]]
Start = Callable[..., Running]
Make = Callable[[float], tuple[Measures, InMemorySpanExporter]]


class Recorded:
    """A Router that records all requests."""

    def __init__(self, router: Running, made: tuple[Measures, InMemorySpanExporter]) -> None:
        self.router = router
        router.core.measures, self._exporter = made

    def calls(self, count: int = 1) -> list[ReadableSpan]:
        """Spans of calls, in the order of their beginning, of the first request that has this number of calls."""
        found: list[ReadableSpan] = []

        def complete() -> bool:
            traces: dict[int, list[ReadableSpan]] = {}
            for span in self._exporter.get_finished_spans():
                assert span.context is not None
                traces.setdefault(span.context.trace_id, []).append(span)
            found[:] = next((spans for spans in traces.values() if len(spans) == count + 1), [])
            return bool(found)

        until(complete, 10)
        (request,) = [span for span in found if span.kind is SpanKind.SERVER]
        calls = [span for span in found if span.kind is SpanKind.CLIENT]
        assert len(calls) == count and request.context is not None
        assert all(span.parent is not None and span.parent.span_id == request.context.span_id for span in calls)
        return sorted(calls, key=lambda span: span.start_time or 0)


@pytest.fixture
def recorded(running: Start, measures: Make) -> Callable[..., Recorded]:
    """Function that starts a Router which records all requests."""
    return lambda among, **more: Recorded(running(among, **more), measures(1.0))


def of(span: ReadableSpan, *names: str) -> tuple[Any, ...]:
    return tuple((span.attributes or {}).get(name) for name in names)


def test_a_call_names_model_and_target_and_leaves_tokens_to_the_request(recorded: Any, targets: Targets) -> None:
    (one,) = targets(1)
    made = recorded([one])
    assert made.router.ask().status_code == 200
    (span,) = made.calls()
    assert span.name == "chat m"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "cogniforge",
        "gen_ai.request.model": "m",
        "server.address": "127.0.0.1",
        "server.port": int(one.url.rpartition(":")[2]),
        "http.response.status_code": 200,
        "cogniforge.target": "a",
        "cogniforge.attempt": 1,
        "cogniforge.outcome": "answered",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_a_stream_has_the_time_to_its_first_piece(recorded: Any, targets: Targets) -> None:
    made = recorded(targets(1))
    made.router.stream()
    (span,) = made.calls()
    assert [event.name for event in span.events] == ["cogniforge.first_token"]
    (seconds,) = of(span, "gen_ai.response.time_to_first_chunk")
    assert 0 < seconds < 5


def test_each_attempt_has_its_own_span_with_its_outcome(recorded: Any, targets: Targets) -> None:
    bad, good = targets(2)
    bad.status = 503
    made = recorded([bad, good])
    asked_until(lambda: bad.seen, made.router.ask)
    first, second = made.calls(2)
    assert of(first, "cogniforge.target", "http.response.status_code", "error.type") == ("a", 503, "503")
    assert of(first, "cogniforge.outcome", "cogniforge.attempt") == ("failed", 1)
    assert of(second, "cogniforge.target", "cogniforge.outcome", "cogniforge.attempt") == ("b", "answered", 2)
    assert first.status.status_code is StatusCode.ERROR and second.status.status_code is StatusCode.UNSET


def test_a_stream_that_another_target_continues_has_two_calls(recorded: Any, targets: Targets) -> None:
    breaking, good = targets(2)
    breaking.break_after = 1
    made = recorded([breaking, good])
    asked_until(lambda: breaking.seen, made.router.stream)
    first, second = made.calls(2)
    assert of(first, "cogniforge.outcome", "error.type") == ("interrupted", "interrupted")
    assert of(second, "cogniforge.outcome", "error.type") == ("answered", None)


def test_a_hedged_request_has_the_call_that_was_overtaken(recorded: Any, targets: Targets) -> None:
    slow, fast = targets(2)
    slow.delay_s = 4
    made = recorded([slow, fast], hedge_seconds=0.1)
    asked_until(lambda: slow.seen, made.router.ask)
    first, second = made.calls(2)
    assert of(first, "cogniforge.outcome", "cogniforge.hedge") == ("overtaken", None)
    assert of(second, "cogniforge.outcome", "cogniforge.hedge") == ("answered", True)
    assert first.status.status_code is StatusCode.UNSET, "it has not failed"


def test_a_call_that_takes_too_long_is_a_failed_one(recorded: Any, targets: Targets) -> None:
    (slow,) = targets(1)
    slow.delay_s = 10
    made = recorded([slow], timeout_seconds=0.5)
    assert made.router.ask().status_code == 504
    (span,) = made.calls()
    assert of(span, "cogniforge.outcome", "error.type") == ("timed-out", "timed-out")
    assert span.status.status_code is StatusCode.ERROR


def test_a_server_of_the_platform_receives_the_calls_context(recorded: Any, says: Callable[..., Says]) -> None:
    model = body_of(says, COMPLETION)
    made = recorded([model])
    assert made.router.ask(headers={"baggage": "tenant=rival", "tracestate": "vendor=x"}).status_code == 200
    (span,) = made.calls()
    (head,) = model.heads
    assert span.context is not None
    sent, flags = head["traceparent"].rsplit("-", 1)
    assert sent == f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"
    assert int(flags, 16) & 1
    assert not {"baggage", "tracestate"} & head.keys()


def test_an_external_provider_receives_no_context(says: Any, outside: Any, measures: Make) -> None:
    upstream = body_of(says, COMPLETION)
    made = Recorded(outside(upstream), measures(1.0))
    assert made.router.ask(headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}).status_code == 200
    (span,) = made.calls()
    assert of(span, "gen_ai.provider.name", "cogniforge.target") == ("openai", "p")
    assert not [name for name in upstream.heads[0] if "trace" in name or "baggage" in name or "b3" in name]
    assert TRACE not in str(upstream.heads) + str(upstream.seen)


def test_a_request_that_is_not_recorded_makes_no_spans(recorded: Any, targets: Targets, measures: Make) -> None:
    made = Recorded(recorded(targets(1)).router, measures(0.0))
    assert made.router.ask().status_code == 200
    assert made._exporter.get_finished_spans() == ()


@pytest.mark.parametrize(("flag", "count"), [("00", 0), ("01", 2)])
def test_a_gateway_that_begins_traces_decides_which_requests_are_recorded(
    running: Start, targets: Targets, measures: Make, flag: str, count: int
) -> None:
    found, exporter = measures(0.0)
    found._gateway = True
    router = running(targets(1))
    router.core.measures = found
    assert router.ask(headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-{flag}"}).status_code == 200
    until(lambda: len(exporter.get_finished_spans()) == count, 5)
