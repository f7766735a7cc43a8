"""Meters: aggregates usage over a time range, grouped by a field."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from kit.database import Connection
from psycopg import sql


class Aggregation(StrEnum):
    """What is made of the values."""

    SUM = "SUM"
    COUNT = "COUNT"
    UNIQUE = "UNIQUE"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"


class Field(StrEnum):
    """Field of usage events to aggregate."""

    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    DURATION_MS = "duration_ms"
    USER = "user"
    MODEL = "model"


class Group(StrEnum):
    """Field of usage events to group by."""

    NONE = ""
    MODEL = "model"
    USER = "user"
    OPERATION = "operation"
    TENANT = "tenant"
    HOUR = "hour"
    DAY = "day"


NUMERIC = {Field.INPUT_TOKENS, Field.OUTPUT_TOKENS, Field.DURATION_MS}
_FUNCTIONS = {
    Aggregation.SUM: "coalesce(sum({}), 0)",
    Aggregation.COUNT: "count({})",
    Aggregation.UNIQUE: "count(DISTINCT {})",
    Aggregation.AVG: "avg({})",
    Aggregation.MIN: "min({})",
    Aggregation.MAX: "max({})",
}
_OF_TENANT = "tenant = %s AND period >= date_trunc('month', %s::timestamptz AT TIME ZONE 'UTC')::date AND "
"""An event is never billed before its month (`intake`), so the index of tenants and periods finds a tenant's events
without reading those of all others."""


async def read(
    connection: Connection,
    tenant: str,
    aggregation: Aggregation,
    field: Field,
    begin: datetime,
    end: datetime,
    group: Group,
) -> list[dict[str, Any]]:
    """One value, or one per group in order. `end` is exclusive. An empty `tenant` means all tenants."""
    value = sql.SQL(_FUNCTIONS[aggregation]).format(sql.Identifier(field.value))  # pyright: ignore[reportArgumentType]
    keys = {
        Group.NONE: sql.SQL("''"),
        Group.HOUR: sql.SQL("to_char(date_trunc('hour', time AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:00\"Z\"')"),
        Group.DAY: sql.SQL("to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD')"),
    }
    key = keys.get(group) or sql.Identifier(group.value)
    query = sql.SQL(
        "SELECT {} AS key, {} AS value FROM usage WHERE {}time >= %s AND time < %s GROUP BY 1 ORDER BY 1"
    ).format(key, value, sql.SQL(_OF_TENANT if tenant else ""))
    cursor = await connection.execute(query, (*([tenant, begin] if tenant else []), begin, end))
    rows = [{"group": k, "value": float(v) if v is not None else None} for k, v in await cursor.fetchall()]
    empty = 0.0 if aggregation in (Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE) else None
    return rows or ([{"group": "", "value": empty}] if group is Group.NONE else [])
