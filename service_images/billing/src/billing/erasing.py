"""Erases the data of a deleted tenant, except records that accounting requires.

Kept: invoices and their basis, which is usage without personal data, prices and credits. Erased: names of users, IDs of
keys, traces, request IDs, and the budget. Later usage is not counted.
"""

from __future__ import annotations

from kit.database import Connection
from kit.errors import ApiError

from billing import intake


async def erase(connection: Connection, tenant: str) -> None:
    """Erase a tenant's data. Can be repeated."""
    # Years of usage take longer than the usual limit. The lock blocks new events, which could restore erased names.
    await connection.execute("SET LOCAL statement_timeout = 0")
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (intake.ISSUING,))
    await connection.execute("INSERT INTO erased (tenant) VALUES (%s) ON CONFLICT DO NOTHING", (tenant,))
    await connection.execute("DELETE FROM budgets WHERE tenant = %s", (tenant,))
    await connection.execute(
        """UPDATE usage SET "user" = '', key = '', trace = '', request = ''
        WHERE tenant = %s AND ("user", key, trace, request) <> ('', '', '', '')""",
        (tenant,),
    )


async def refuse(connection: Connection, tenant: str) -> None:
    """Raise ApiError(409) if the tenant is erased."""
    cursor = await connection.execute("SELECT 1 FROM erased WHERE tenant = %s FOR SHARE", (tenant,))
    if await cursor.fetchone() is not None:
        raise ApiError(409, "The tenant was deleted.", code="tenant_deleted")
