"""Traces across Kafka: the header of a message, and the spans of those who process it.

The names are those of OpenTelemetry's conventions in the revision of `kit.genai`, which no other module spells. Source:
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.

Each event that is processed has a span of its own, whose parent is the context in which the event was made, as the
conventions allow for a span of a single message. A span for a whole batch could only link to the traces of its events,
so that nobody who looks at a request would find it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from kit import genai

if TYPE_CHECKING:
    from confluent_kafka import Message

HEADER = "traceparent"
SYSTEM = "messaging.system"
OPERATION_NAME, OPERATION_TYPE = "messaging.operation.name", "messaging.operation.type"
DESTINATION, PARTITION = "messaging.destination.name", "messaging.destination.partition.id"
GROUP, OFFSET = "messaging.consumer.group.name", "messaging.kafka.offset"
EVENT_ID = "cloudevents.event_id"
MOST_TRACED = 1000
"""Events of a batch that get a span. Only a consumer that was away has larger batches, and the requests of most of
their events have been decided about."""
_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def headers(traceparent: bytes) -> list[tuple[str, bytes]]:
    """Headers of a message that was made in this context; empty: in none."""
    return [(HEADER, traceparent)] if traceparent else []


def origin(message: Message) -> SpanContext | None:
    """Context in which a message was made, if that is recorded. None for headers that are missing or malformed."""
    try:
        found = [value for name, value in message.headers() or () if name == HEADER]
    except (ValueError, TypeError):  # a name is not UTF-8
        return None
    if len(found) != 1:
        return None
    value = found[0].encode(errors="replace") if isinstance(found[0], str) else found[0]
    match = _PARENT.fullmatch(value) if isinstance(value, bytes) else None
    if match is None:
        return None
    flags = TraceFlags(int(match[3], 16))
    context = SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return context if context.is_valid and flags.sampled else None


def process(message: Message, parent: SpanContext, group: str, event: dict[str, Any] | None) -> Span:
    """Begin the span of a message that a consumer `group` processes now. `event`: its content, if it is valid."""
    topic = message.topic() or ""
    known: dict[str, Any] = {
        SYSTEM: "kafka",
        OPERATION_NAME: "process",
        OPERATION_TYPE: "process",
        DESTINATION: topic,
        PARTITION: str(message.partition()),
        OFFSET: message.offset() or 0,
        GROUP: group,
    }
    if event is not None and "id" in event:
        known[EVENT_ID] = event["id"]
    return trace.get_tracer("kit", schema_url=genai.REVISION).start_span(
        f"process {topic}",
        context=trace.set_span_in_context(NonRecordingSpan(parent)),
        kind=SpanKind.CONSUMER,
        attributes=known,
    )


def set_aside(span: Span) -> None:
    """End the span of a message that became a dead letter. The reason, which may quote the event, is kept there."""
    span.set_attribute("error.type", "dead_letter")
    span.set_status(Status(StatusCode.ERROR, "The event became a dead letter."))
    span.end()
