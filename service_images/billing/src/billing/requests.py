"""What one request has cost: its usage, the price of each kind of usage, and the invoice that has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kit.database import Connection
from kit.rest import Model
from psycopg.rows import dict_row

from billing import rating

MOST = 20
"""Most answers with one request ID that are returned. Clients choose the IDs, and may repeat one."""
_FIND = f"""
SELECT source, id, tenant, time, model, operation, input_tokens, output_tokens, cached, "user",
       duration_ms, status, period
FROM usage WHERE request = %(request)s AND request <> '' {{}} ORDER BY tenant, time DESC LIMIT {MOST + 1}
"""
_INVOICE = "SELECT number, issued, content FROM invoices WHERE tenant = %s AND period = %s"


class PricedKind(Model):
    """One kind of usage of a request, with the price that applies: `unit_usd` for `per` tokens or requests."""

    kind: str
    quantity: int
    unit_usd: str
    per: int
    usd: str
    """Exact amount. Invoices are rounded once, as a whole."""
    price_tenant: str
    """Tenant that the price is for; empty: all tenants."""
    price_model: str
    """Model that the price is for; "*": any model."""
    price_begins: datetime


class InvoicePart(Model):
    """The invoice of the request's period, and its lines that include the request."""

    period: str
    number: int | None
    """Null until the invoice is issued. Then the lines are empty, since their totals still change."""
    issued: datetime | None
    lines: list[dict[str, Any]]


class RequestCost(Model):
    """Usage and cost of one request."""

    event: str
    """ID of the usage event, as in the audit log."""
    source: str
    tenant: str
    time: datetime
    model: str
    operation: str
    input_tokens: int
    output_tokens: int
    cached: bool
    user: str
    duration_ms: float
    status: int
    """HTTP status; 0 if the event did not state it."""
    lines: list[PricedKind]
    unpriced: list[str]
    """Kinds of usage without a price."""
    usd: str
    invoice: InvoicePart


class RequestCosts(Model):
    """Answers with one request ID, by tenant, newest first."""

    requests: list[RequestCost]
    more: bool
    """Whether there are further ones."""


async def find(connection: Connection, request: str, tenant: str) -> RequestCosts:
    """Answers with this request ID of one tenant, or of all if `tenant` is empty."""
    values = {"request": request, "tenant": tenant}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_FIND.format("AND tenant = %(tenant)s" if tenant else "").encode(), values)
        rows = await cursor.fetchall()
    return RequestCosts(requests=[await _cost(connection, row) for row in rows[:MOST]], more=len(rows) > MOST)


async def _cost(connection: Connection, row: dict[str, Any]) -> RequestCost:
    source, event, period = row.pop("source"), row.pop("id"), row.pop("period")
    lines, unpriced, usd = await rating.of_event(connection, source, event)
    found = await connection.execute(_INVOICE, (row["tenant"], period))
    issued = await found.fetchone()
    number, when, content = issued or (None, None, {"lines": []})
    own = {(row["model"], line["kind"], line["unit_usd"], line["per"]) for line in lines}
    mine = [line for line in content["lines"] if (line["model"], line["kind"], line["unit_usd"], line["per"]) in own]
    return RequestCost(
        **row,
        event=event,
        source=source,
        lines=[PricedKind(**line) for line in lines],
        unpriced=unpriced,
        usd=usd,
        invoice=InvoicePart(period=f"{period:%Y-%m}", number=number, issued=when, lines=mine),
    )
