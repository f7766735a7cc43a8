"""A consumer continues the trace of each event, and no header that anybody sends is its failure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import cloudevents_attributes, messaging_attributes
from opentelemetry.trace import SpanKind, StatusCode

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "kit" / "tests")]

from kafka_messages import Received  # noqa: E402
from kit import messaging, telemetry  # noqa: E402
from kit.sender import Sender  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from kit.spill import Spill  # noqa: E402

from service_images.kit.tests.test_dead_letters import (  # noqa: E402
    Consumer,
    anyio_backend,
    consumer,
    database,
    message,
    settings,
)

__all__ = ["anyio_backend", "consumer", "database", "settings"]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{PARENT}-01".encode()


def with_header(number: Any, value: Any = SAMPLED, name: str = messaging.HEADER) -> Received:
    found = message(number)
    found.of_headers = [(name, value)]
    return found


def told(span: ReadableSpan) -> dict[str, Any]:
    assert span.parent is not None and span.context is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    return dict(span.attributes or {})


@pytest.fixture
def tracing(consumer: Consumer) -> Consumer:
    """A consumer whose service sends spans."""
    consumer.events._traces = True
    return consumer


@pytest.mark.anyio
async def test_each_event_of_a_recorded_request_has_a_span_below_its_creator(
    tracing: Consumer, spans: InMemorySpanExporter
) -> None:
    messages = [with_header(1), message(2), with_header(3), with_header(4, SAMPLED[:-1] + b"0")]
    await tracing.events.process(messages)
    assert await tracing.taken() == [1, 2, 3, 4]
    first, third = spans.get_finished_spans()
    assert first.name == third.name == "process usage.recorded.v1"
    assert first.kind is SpanKind.CONSUMER
    assert told(first) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "usage.recorded.v1",
        "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": messages[0].place,
        "messaging.consumer.group.name": "kit",
    }
    assert told(third)["messaging.kafka.offset"] == messages[2].place
    assert first.status.status_code is StatusCode.UNSET


@pytest.mark.anyio
async def test_an_event_that_becomes_a_dead_letter_is_a_failed_span_without_its_content(
    tracing: Consumer, spans: InMemorySpanExporter
) -> None:
    tracing.refused = {2}
    unreadable = Received(b'{"number": "the secret"}', of_headers=[(messaging.HEADER, SAMPLED)])
    await tracing.events.process([with_header(1), with_header(2), unreadable])
    assert await tracing.taken() == [1]
    failed = [span for span in spans.get_finished_spans() if span.status.status_code is StatusCode.ERROR]
    assert len(failed) == 2 and len(spans.get_finished_spans()) == 3
    assert all(told(span)["error.type"] == "dead_letter" for span in failed)
    assert "secret" not in "".join(span.to_json() for span in failed)


@pytest.mark.anyio
async def test_what_a_single_event_causes_has_its_trace(
    tracing: Consumer, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def handle(events: Any) -> None:
        seen.append(telemetry.traceparent())

    monkeypatch.setattr(tracing.events, "_handle", handle)
    await tracing.events.process([with_header(1)])
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert seen == [f"00-{TRACE}-{span.context.span_id:016x}-01"]
    await tracing.events.process([with_header(1), with_header(2)])
    assert seen[1:] == [""]


@pytest.mark.anyio
async def test_a_large_batch_has_a_limited_number_of_spans(
    tracing: Consumer, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messaging, "MOST_TRACED", 10)
    await tracing.events.process([with_header(number) for number in range(25)])
    assert len(await tracing.taken()) == 25
    assert len(spans.get_finished_spans()) == 10


@pytest.mark.anyio
async def test_without_a_receiver_of_spans_headers_are_not_read(consumer: Consumer) -> None:
    unread = message(1)
    unread.of_headers = RuntimeError("read")
    await consumer.events.process([unread])
    assert await consumer.taken() == [1]


MALFORMED = st.one_of(
    st.none(),
    st.text(max_size=80),
    st.binary(max_size=80),
    st.sampled_from(
        (
            f"00-{'0' * 32}-{PARENT}-01".encode(),
            f"00-{TRACE}-{'0' * 16}-01".encode(),
            f"ff-{TRACE}-{PARENT}-01".encode(),
            f"00-{TRACE.upper()}-{PARENT}-01".encode(),
            SAMPLED + b"\n",
            SAMPLED + b"-more",
            SAMPLED[:-2] + b"zz",
        )
    ),
)


@pytest.mark.anyio
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=st.one_of(
        st.sampled_from((UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ValueError(), TypeError(), None, [])),
        MALFORMED.map(lambda value: [(messaging.HEADER, value)]),
        st.just([(messaging.HEADER, SAMPLED), (messaging.HEADER, SAMPLED)]),
        st.just([(messaging.HEADER.upper(), SAMPLED)]),
    )
)
async def test_malformed_headers_are_ignored(tracing: Consumer, spans: InMemorySpanExporter, headers: Any) -> None:
    before = tracing.events.taken
    received = message(1)
    received.of_headers = headers
    await tracing.events.process([received])
    assert tracing.events.taken == before + 1
    assert spans.get_finished_spans() == ()


def test_all_names_are_those_of_the_pinned_revision() -> None:
    known = [*vars(messaging_attributes).values(), *vars(cloudevents_attributes).values()]
    own = {name: value for name, value in vars(messaging).items() if name.isupper() and isinstance(value, str)}
    assert len(own) == 9 and own.pop("HEADER") == "traceparent"
    assert [value for value in own.values() if value not in known] == []


class Kafka:
    """A producer that keeps what it is given while it has room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sent: list[tuple[bytes, Any]] = []

    def produce(self, topic: str, content: bytes, key: bytes, headers: Any, on_delivery: Any = None) -> None:
        if len(self.sent) >= self.room:
            raise BufferError
        self.sent.append((content, headers))
        if on_delivery is not None:
            on_delivery(None, None)

    def poll(self, _: float) -> None:
        pass


def test_a_producer_sends_the_context_of_each_event_also_of_one_that_waited_on_disk(tmp_path: Path) -> None:
    settings = ServiceSettings(name="kit", kafka_bootstrap="127.0.0.1:1")
    sender = Sender({"bootstrap.servers": settings.kafka_bootstrap}, Spill(tmp_path, 2**20))
    sender._producer = kafka = Kafka(1)
    for number in range(3):
        sender.send("topic", "key", {"number": number, "traceparent": SAMPLED.decode()})
    sender.send("topic", "key", {"number": 3})
    sender.hand_on()
    assert len(kafka.sent) == 1 and sender._spill.size > 0
    kafka.room = 10
    while len(kafka.sent) < 4:
        sender.hand_on()
    assert [headers for _, headers in kafka.sent] == 3 * [[(messaging.HEADER, SAMPLED)]] + [[]]
