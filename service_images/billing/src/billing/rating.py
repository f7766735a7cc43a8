"""Computes costs of usage: each event has the price of its time; sums are exact and rounded once."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from kit.database import Connection
from psycopg.rows import dict_row

CENT = Decimal("0.01")
_PRICED = """
LEFT JOIN LATERAL (
    -- A price for the tenant goes before one for all, one for the model before one for any.
    SELECT usd, per, tenant, model, begins FROM prices p
    WHERE p.kind = q.kind AND p.tenant IN ('', q.tenant) AND p.model IN ('*', q.model) AND p.begins <= q.time
    ORDER BY p.tenant = '' , p.model = '*', p.begins DESC LIMIT 1
) p ON true
"""
"""The price of each row of q: a kind of usage at a time. It is NULL where there is none."""
_OF_MONTH = f"""
WITH split AS (
    -- Days on which a price begins after midnight: each record of such a day has the price of its own time.
    SELECT DISTINCT (begins AT TIME ZONE 'UTC')::date AS day FROM prices
    WHERE tenant IN ('', %(tenant)s) AND (begins AT TIME ZONE 'UTC')::time <> '00:00'
), q AS (
    SELECT d.tenant, d.day::timestamp AT TIME ZONE 'UTC' AS time, d.model, k.kind, k.quantity, k.events
    FROM model_days d
    CROSS JOIN LATERAL (VALUES ('input', d.input_tokens, d.input_events), ('output', d.output_tokens, d.output_events),
        ('request', d.events, d.events)) AS k (kind, quantity, events)
    WHERE d.tenant = %(tenant)s AND d.period = %(period)s AND NOT d.cached AND k.quantity > 0
        AND d.day NOT IN (SELECT day FROM split)
    UNION ALL
    SELECT u.tenant, u.time, u.model, k.kind, k.quantity, 1
    FROM split s
    JOIN usage u ON u.tenant = %(tenant)s AND u.period = %(period)s AND u.time >= s.day::timestamp AT TIME ZONE 'UTC'
        AND u.time < (s.day + 1)::timestamp AT TIME ZONE 'UTC'
    CROSS JOIN LATERAL (VALUES ('input', u.input_tokens), ('output', u.output_tokens), ('request', 1))
        AS k (kind, quantity)
    WHERE NOT u.cached AND k.quantity > 0
)
SELECT q.model, q.kind, p.usd, p.per, sum(q.quantity) AS quantity, sum(q.events) AS events
FROM q {_PRICED} GROUP BY q.model, q.kind, p.usd, p.per ORDER BY q.model, q.kind, p.usd, p.per
"""
_EVENT = f"""
SELECT q.kind, q.quantity, p.usd, p.per, p.tenant AS price_tenant, p.model AS price_model, p.begins AS price_begins
FROM (
    SELECT u.tenant, u.time, u.model, k.kind, k.quantity
    FROM usage u
    CROSS JOIN LATERAL (VALUES ('input', u.input_tokens), ('output', u.output_tokens), ('request', 1))
        AS k (kind, quantity)
    WHERE u.source = %(source)s AND u.id = %(id)s AND NOT u.cached AND k.quantity > 0
) q {_PRICED} ORDER BY q.kind
"""


async def invoice(connection: Connection, tenant: str, period: date) -> dict[str, Any]:
    """A tenant's invoice for a month, computed from the current events. Equal events give equal invoices."""
    values = {"tenant": tenant, "period": period}
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_OF_MONTH, values)
        rows = await cursor.fetchall()
        await cursor.execute(
            "SELECT coalesce(sum(usd), 0) AS usd FROM credits WHERE tenant = %(tenant)s AND period = %(period)s", values
        )
        credits = await cursor.fetchone()
    lines = [_line(row) for row in rows if row["usd"] is not None]
    # Tokens without a price. A free model has a price of 0. A price per request is additional and covers no tokens.
    unpriced = [
        {"model": row["model"], "kind": row["kind"]} for row in rows if row["usd"] is None and row["kind"] != "request"
    ]
    credit = credits["usd"] if credits else Decimal(0)
    gross = sum((Decimal(line["usd"]) for line in lines), Decimal(0))
    used = min(gross, credit)
    total = (gross - used).quantize(CENT, ROUND_HALF_EVEN)
    return {
        "tenant": tenant,
        "period": f"{period:%Y-%m}",
        "currency": "USD",
        "lines": lines,
        "gross_usd": _plain(gross),
        "credit_usd": _plain(used),
        "total_cents": int(total * 100),
        "unpriced_models": sorted({row["model"] for row in unpriced}),
        "unpriced": unpriced,
    }


async def of_event(connection: Connection, source: str, id: str) -> tuple[list[dict[str, Any]], list[str], str]:
    """(priced kinds of usage of one event, kinds of tokens without a price, amount in USD)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_EVENT, {"source": source, "id": id})
        rows = await cursor.fetchall()
    priced = [row for row in rows if row["usd"] is not None]
    amounts = [row["quantity"] * row["usd"] / row["per"] for row in priced]
    lines = [
        {**row, "quantity": int(row["quantity"]), "unit_usd": _plain(row.pop("usd")), "usd": _plain(amount)}
        for row, amount in zip(priced, amounts, strict=True)
    ]
    # A price per request is additional, so its absence is no gap.
    unpriced = [row["kind"] for row in rows if row not in priced and row["kind"] != "request"]
    return lines, unpriced, _plain(sum(amounts, Decimal(0)))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    amount = row["quantity"] * row["usd"] / row["per"]
    return {
        "model": row["model"],
        "kind": row["kind"],
        "quantity": int(row["quantity"]),
        "events": int(row["events"]),
        "unit_usd": _plain(row["usd"]),
        "per": row["per"],
        "usd": _plain(amount),
    }


def _plain(amount: Decimal) -> str:
    """Decimal notation without exponent and trailing zeros."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


async def spent(connection: Connection, period: date) -> dict[str, Decimal]:
    """Amount in USD that each tenant with a budget has used in a month, minus credits."""
    cursor = await connection.execute("SELECT tenant FROM budgets")
    found: dict[str, Decimal] = {}
    for (tenant,) in await cursor.fetchall():
        bill = await invoice(connection, tenant, period)
        found[tenant] = Decimal(bill["gross_usd"]) - Decimal(bill["credit_usd"])
    return found
