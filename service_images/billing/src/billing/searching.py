"""Searches the usage history: by tenant, model and status within a time range, newest first, page by page.

A page begins after the last row of the page before (its time, source and ID), so that later pages cost as much as the
first one, and rows that arrive meanwhile shift nothing.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
from kit.database import Connection
from kit.errors import ApiError
from kit.rest import Model, Moment
from psycopg.rows import dict_row
from pydantic import Field

LONGEST = timedelta(days=31)
"""Longest time range of a search. It bounds what is read where few of a range's rows fit."""
PAGE = 100
"""Most requests on one page."""
_FAILED = 400
_TEXT = r"^[^\x00]*$"


class Search(Model):
    """Filter for requests. The default is the caller's tenant; an operator's key reads all tenants."""

    tenant: Annotated[str, Field(max_length=200, pattern=_TEXT)] = ""
    model: Annotated[str, Field(max_length=200, pattern=_TEXT)] = ""
    status: Annotated[str, Field(pattern=r"^([1-5][0-9][0-9]|[1-5]xx)?$")] = ""
    """HTTP status, such as 429, or the first digit of several, such as 5xx."""
    begin: Moment
    end: Moment
    """Not included, and at most 31 days after the beginning."""
    after: Annotated[str, Field(max_length=2000, pattern=r"^[A-Za-z0-9_-]*$")] = ""
    """`next` of the page before."""
    limit: Annotated[int, Field(ge=1, le=PAGE)] = 50


class FoundRequest(Model):
    """A request that a model has answered, or has failed to."""

    request: str
    """Request ID; empty if none was recorded, or it has expired."""
    event: str
    tenant: str
    time: datetime
    """End of the request."""
    model: str
    operation: str
    status: int
    """HTTP status; 0 if the event did not state it."""
    input_tokens: int
    output_tokens: int
    cached: bool
    user: str
    duration_ms: float


class FoundRequests(Model):
    """Requests, newest first, and where the next page begins; null on the last one."""

    requests: list[FoundRequest]
    next: str | None


class _Place(msgspec.Struct, array_like=True, frozen=True):
    """Last row of a page."""

    time: datetime
    source: str
    id: str


def statement(search: Search, tenant: str) -> tuple[str, dict[str, Any]]:
    """The query of a page and one row more, with its values. Raises ApiError(400) for a range or a place that is none.

    `tenant`: the tenant whose requests are found; empty: all.
    """
    if not timedelta(0) < search.end - search.begin <= LONGEST:
        message = f"end: it is {search.end:%Y-%m-%d %H:%M} UTC; it must be after begin, and at most {LONGEST.days} days"
        raise ApiError(400, message, param="end")
    where = ["time >= %(begin)s", "time < %(end)s"]
    values: dict[str, Any] = {"begin": search.begin, "end": search.end, "limit": search.limit + 1}
    for name, value in (("tenant", tenant), ("model", search.model)):
        if value:
            where.append(f"{name} = %({name})s")
            values[name] = value
    if search.status:
        first = int(search.status.replace("x", "0"))
        values |= {"low": first, "high": first + 99 if "x" in search.status else first}
        where.append("status BETWEEN %(low)s AND %(high)s")
        if first >= _FAILED:  # as the index says it
            where.append(f"status >= {_FAILED}")
    if search.after:
        place = _place(search.after)
        values |= {"at": place.time, "source": place.source, "id": place.id}
        where.append("time <= %(at)s AND (time, source, id) < (%(at)s, %(source)s, %(id)s)")
    text = f"""
        SELECT request, source, id AS event, tenant, time, model, operation, status, input_tokens, output_tokens,
               cached, "user", duration_ms
        FROM usage WHERE {" AND ".join(where)} ORDER BY time DESC, source DESC, id DESC LIMIT %(limit)s
        """
    return text, values


async def find(connection: Connection, search: Search, tenant: str) -> FoundRequests:
    """A page of requests of one tenant, or of all if `tenant` is empty. Raises ApiError(400)."""
    text, values = statement(search, tenant)
    async with connection.cursor(row_factory=dict_row) as reading:
        await reading.execute(text.encode(), values)
        rows = await reading.fetchall()
    more, rows = len(rows) > search.limit, rows[: search.limit]
    places = [(row["time"], row.pop("source"), row["event"]) for row in rows]
    after = cursor(*places[-1]) if more else None
    return FoundRequests(requests=[FoundRequest(**row) for row in rows], next=after)


def cursor(time: datetime, source: str, id: str) -> str:
    """Where the page after a row begins."""
    return base64.urlsafe_b64encode(msgspec.json.encode(_Place(time, source, id))).decode().rstrip("=")


def _place(text: str) -> _Place:
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=_Place)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        found = None
    if found is None or found.time.tzinfo is None or "\0" in found.source + found.id:
        raise ApiError(400, "after: it is not the `next` of a page", param="after")
    return found
