"""The outbox: an event that is written with the change that it tells of, or not at all."""

from __future__ import annotations

import json
from typing import Any

from kit import events, telemetry
from kit.database import Connection


async def put(connection: Connection, topic: str, service: str, key: str, data: dict[str, Any]) -> dict[str, Any]:
    """Write an event of a topic within the transaction of `connection`; `key` is what order is kept for.

    The row goes again at once: change data capture reads the database's log, and the table stays small.
    """
    parent = telemetry.traceparent()
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
