"""Meters: aggregates usage over a time range, grouped by a field."""

from __future__ import annotations

from datetime import datetime, time
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
    KEY = "key"
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
_SUMMED = {
    (Aggregation.SUM, Field.INPUT_TOKENS): "sum(input_tokens)",
    (Aggregation.SUM, Field.OUTPUT_TOKENS): "sum(output_tokens)",
    **{(Aggregation.COUNT, field): "sum(events)" for field in Field},
}
"""What the daily sums tell, as expressions over them. Every event has all fields."""
_IN_SUMS = {
    Group.NONE: "''",
    Group.MODEL: "model",
    Group.USER: '"user"',
    Group.KEY: "key",
    Group.OPERATION: "operation",
    Group.TENANT: "tenant",
    Group.DAY: "to_char(day, 'YYYY-MM-DD')",
}
_TABLES = {Group.USER: "user_days", Group.KEY: "key_days"}
"""Tables of the sums that `model_days` does not tell."""


def _from_sums(
    tenant: str, aggregation: Aggregation, field: Field, begin: datetime, end: datetime, group: Group
) -> tuple[bytes, list[Any]] | None:
    """The query of daily sums. None if they do not tell the values: a part of a day, or a value of single events."""
    value, key = _SUMMED.get((aggregation, field)), _IN_SUMS.get(group)
    if value is None or key is None or (begin.time(), end.time()) != (time(), time()):
        return None
    table = _TABLES.get(group, "model_days")
    where, values = ["day >= %s", "day < %s"], [begin.date(), end.date()]
    if tenant:
        where.append("tenant = %s")
        values.append(tenant)
        if table == "model_days":
            where.append("period >= date_trunc('month', %s::date)::date")
            values.append(begin.date())
    text = f"SELECT {key} AS key, {value} AS value FROM {table} WHERE {' AND '.join(where)} GROUP BY 1 ORDER BY 1"
    return text.encode(), values


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
    query, values = _from_sums(tenant, aggregation, field, begin, end, group) or _from_events(
        tenant, aggregation, field, begin, end, group
    )
    cursor = await connection.execute(query, values)
    rows = [{"group": k, "value": float(v) if v is not None else None} for k, v in await cursor.fetchall()]
    empty = 0.0 if aggregation in (Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE) else None
    return rows or ([{"group": "", "value": empty}] if group is Group.NONE else [])


def _from_events(
    tenant: str, aggregation: Aggregation, field: Field, begin: datetime, end: datetime, group: Group
) -> tuple[sql.Composed, list[Any]]:
    """The query of the events themselves."""
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
    return query, [*([tenant, begin] if tenant else []), begin, end]
