"""Stores usage events in the database. Each event counts once, in a period that is not invoiced yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit.database import Database

ISSUING = 0x6269
"""Number of the advisory lock: shared while usage is stored, exclusive while an invoice is issued."""
_COLUMNS = (
    "source, id, tenant, time, model, operation, input_tokens, output_tokens, cached, "
    '"user", key, duration_ms, trace, request, status'
)
_STAGE = f"CREATE TEMPORARY TABLE stage ON COMMIT DROP AS SELECT {_COLUMNS} FROM usage WITH NO DATA"
_PERSONAL = ('"user"', "key", "trace", "request")


def _shown(column: str) -> str:
    """SQL expression for a column. Late events of a deleted tenant lose the columns with personal data."""
    return f"CASE WHEN e.tenant IS NULL THEN s.{column} ELSE '' END" if column in _PERSONAL else f"s.{column}"


_TAKE = f"""
INSERT INTO usage ({_COLUMNS}, period)
SELECT {", ".join(_shown(name) for name in _COLUMNS.split(", "))},
    -- What comes after its period's invoice is billed in the first one that is still open.
    GREATEST(date_trunc('month', s.time AT TIME ZONE 'UTC')::date,
             (SELECT max(i.period) + interval '1 month' FROM invoices i WHERE i.tenant = s.tenant)::date)
FROM stage s LEFT JOIN erased e ON e.tenant = s.tenant
WHERE e.tenant IS NULL OR s.time <= e.at
ON CONFLICT DO NOTHING
"""


async def take(database: Database, events: Sequence[dict[str, Any]]) -> int:
    """Store usage events. Returns the number of new ones. The events must be valid `api.UsageEvent`s."""
    if not events:
        return 0
    async with database.transaction() as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ISSUING,))
        await cursor.execute(_STAGE)
        async with cursor.copy(f"COPY stage ({_COLUMNS}) FROM STDIN") as copy:
            for event in events:
                await copy.write_row(_row(event))
        await cursor.execute(_TAKE)
        return cursor.rowcount


def _row(event: dict[str, Any]) -> tuple[Any, ...]:
    used = event["data"]
    return (
        event["source"],
        event["id"],
        used["tenant"],
        event["time"],
        used["model"],
        used["operation"],
        used["input_tokens"],
        used["output_tokens"],
        used["cached"],
        used["user"],
        used["key"],
        used["duration_ms"],
        event["traceparent"],
        used["request"],
        used["status"],
    )
