"""The outbox: writes an event in the same transaction as the change that it reports."""

from __future__ import annotations

from typing import Any

from kit import events, strict_json, telemetry
from kit.database import Connection
from kit.errors import ApiError
from kit.limits import EVENT


async def put(connection: Connection, topic: str, service: str, key: str, data: dict[str, Any]) -> dict[str, Any]:
    """Write an event of a topic in the transaction of `connection`. Events with the same `key` stay in order.

    The payload is opaque text: change data capture does not parse it, so no content can block it. The row is deleted at
    once, since change data capture reads the database's log; the table stays small.
    Raises ApiError(400) or ApiError(413) for an event that readers or Kafka would refuse. Nothing is changed then.
    """
    parent = telemetry.traceparent()
    event = events.event(topic, service, key, data, parent)
    try:
        payload = strict_json.dumps(strict_json.check(event))
    except strict_json.BadJson as error:
        raise ApiError(400, f"The change cannot be recorded: {error}", param=error.path or None) from None
    if len(payload) > EVENT.most:
        raise ApiError(413, f"The change is too large to be recorded; {EVENT}.", code="event_too_large")
    cursor = await connection.execute(
        "INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload, tracingspancontext) "
        "VALUES (%s, %s, %s, %s, %s) RETURNING id",
        (topic, key, event["type"], payload.decode(), parent or None),
    )
    row = await cursor.fetchone()
    assert row is not None, "an insert returns its row"
    await connection.execute("DELETE FROM events.outbox WHERE id = %s", (row[0],))
    return event
