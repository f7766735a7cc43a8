"""Usage events into the database: each counts once, whatever comes twice, and in the period that is still open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from kit.database import Database

ISSUING = 0x6269
"""Key of the advisory lock: shared while usage is written, alone while an invoice is made."""
_COLUMNS = 'source, id, tenant, time, model, operation, input_tokens, output_tokens, cached, "user", duration_ms, trace'
_STAGE = f"CREATE TEMPORARY TABLE stage ON COMMIT DROP AS SELECT {_COLUMNS} FROM usage WITH NO DATA"
_TAKE = f"""
INSERT INTO usage ({_COLUMNS}, period)
SELECT {", ".join("s." + name for name in _COLUMNS.split(", "))},
    -- What comes after its period's invoice is billed in the first one that is still open.
    GREATEST(date_trunc('month', s.time AT TIME ZONE 'UTC')::date,
             (SELECT max(i.period) + interval '1 month' FROM invoices i WHERE i.tenant = s.tenant)::date)
FROM stage s
ON CONFLICT DO NOTHING
"""


class Usage(msgspec.Struct):
    """The data of a usage event. Source: kit/events/usage.recorded.v1.json."""

    tenant: str
    model: str
    operation: str
    input_tokens: int
    output_tokens: int
    cached: bool = False
    user: str = ""
    duration_ms: float = 0.0


async def take(database: Database, events: Sequence[dict[str, Any]]) -> int:
    """Write usage down; returns how many events were new. Those that are no usage are left out."""
    rows = [row for event in events if (row := _row(event)) is not None]
    if not rows:
        return 0
    async with database.transaction() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ISSUING,))
        await cursor.execute(_STAGE)
        async with cursor.copy(f"COPY stage ({_COLUMNS}) FROM STDIN") as copy:
            for row in rows:
                await copy.write_row(row)
        await cursor.execute(_TAKE)
        return cursor.rowcount


def _row(event: dict[str, Any]) -> tuple[Any, ...] | None:
    try:
        usage = msgspec.convert(event["data"], Usage)
    except msgspec.ValidationError:
        return None
    if usage.input_tokens < 0 or usage.output_tokens < 0:
        return None
    return (
        event["source"],
        event["id"],
        usage.tenant,
        event["time"],
        usage.model,
        usage.operation,
        usage.input_tokens,
        usage.output_tokens,
        usage.cached,
        usage.user,
        usage.duration_ms,
        event.get("traceparent", ""),
    )
