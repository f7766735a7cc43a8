"""A tenant that was deleted: what Billing erases of it, and what it keeps because books must be kept.

Kept are invoices, and what they follow from: usage that is counted but says nothing of a person, prices, credits. Gone
are who used what, traces, and the budget. What is used later is not counted.
"""

from __future__ import annotations

from kit.database import Connection
from kit.errors import ApiError

from billing import intake


async def erase(connection: Connection, tenant: str) -> None:
    """Done twice, it does nothing."""
    # Years of usage take longer than a request may; no event is taken meanwhile, so that none brings a name back.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (intake.ISSUING,))
    await connection.execute("INSERT INTO erased (tenant) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,))
    await connection.execute("DELETE FROM budgets WHERE tenant = %s", (tenant,))
    await connection.execute(
        """UPDATE usage SET "user" = '', trace = '' WHERE tenant = %s AND ("user", trace) <> ('', '')""", (tenant,)
    )


async def refuse(connection: Connection, tenant: str) -> None:
    """Raises ApiError(409) for a tenant that was erased."""
    cursor = await connection.execute("SELECT 1 FROM erased WHERE tenant = %s FOR SHARE", (tenant,))
    if await cursor.fetchone() is not None:
        raise ApiError(409, "The tenant was deleted.", code="tenant_deleted")
