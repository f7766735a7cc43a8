"""The outbox: an event that is written with the change that it tells of, or not at all."""

from __future__ import annotations

import json
from typing import Any

from opentelemetry import trace

from kit import events
from kit.database import Connection


def traceparent() -> str:
    """Of the request that is being answered; empty outside of one."""
    span = trace.get_current_span().get_span_context()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}" if span.is_valid else ""


async def put(connection: Connection, topic: str, service: str, key: str, data: dict[str, Any]) -> dict[str, Any]:
    """Write an event of a topic within the transaction of `connection`; `key` is what order is kept for.

    The row goes again at once: change data capture reads the database's log, and the table stays small.
    """
    parent = traceparent()
    event = events.event(topic, service, key, data, parent)
    cursor = await connection.execute(
        "INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload, tracingspancontext) "
        "VALUES (%s, %s, %s, %s, %s) RETURNING id",
        (topic, key, event["type"], json.dumps(event), parent or None),
    )
    row = await cursor.fetchone()
    assert row is not None, "an insert returns its row"
    await connection.execute("DELETE FROM events.outbox WHERE id = %s", (row[0],))
    return event
