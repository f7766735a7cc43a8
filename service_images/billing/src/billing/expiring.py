"""Retention in Billing. Records are deleted only after an issued invoice has included them."""

from __future__ import annotations

from collections.abc import Iterator

from kit.database import Connection
from kit.retention import BATCH, Expire

_INVOICED = "EXISTS (SELECT FROM invoices i WHERE (i.tenant, i.period) = (u.tenant, u.period))"
_NAMES = f"""
UPDATE usage SET "user" = '', key = '', trace = '', request = '' WHERE (source, id) IN (
    SELECT u.source, u.id FROM usage u WHERE u.time < now() - make_interval(days => %s)
    AND (u."user", u.key, u.trace, u.request) <> ('', '', '', '') AND {_INVOICED} LIMIT {BATCH})
"""
_USAGE = f"""
DELETE FROM usage WHERE (source, id) IN (
    SELECT u.source, u.id FROM usage u WHERE u.time < now() - make_interval(days => %s) AND {_INVOICED} LIMIT {BATCH})
"""
_INVOICES = f"""
DELETE FROM invoices WHERE number IN (
    SELECT i.number FROM invoices i WHERE i.issued < now() - make_interval(days => %s)
    -- A tenant's newest stays: it says from when on usage is still to be billed. So does one whose usage is there.
    AND (i.period < (SELECT max(n.period) FROM invoices n WHERE n.tenant = i.tenant)
         OR EXISTS (SELECT FROM erased e WHERE e.tenant = i.tenant))
    AND NOT EXISTS (SELECT FROM usage u WHERE (u.tenant, u.period) = (i.tenant, i.period)) LIMIT {BATCH})
"""
_CREDITS = f"""
DELETE FROM credits WHERE (tenant, id) IN (
    SELECT c.tenant, c.id FROM credits c WHERE c.period < (now() - make_interval(days => %s))::date
    AND (c.period < (SELECT max(n.period) FROM invoices n WHERE n.tenant = c.tenant)
         OR EXISTS (SELECT FROM erased e WHERE e.tenant = c.tenant)) LIMIT {BATCH})
"""


def expiring(names_days: int, usage_days: int, invoices_days: int) -> Iterator[Expire]:
    """Functions that delete expired records, for retention periods in days; 0 means never."""
    for query, days in (
        (_NAMES, names_days), (_USAGE, usage_days), (_INVOICES, invoices_days), (_CREDITS, invoices_days)
    ):  # fmt: skip
        if days:
            yield _after(query, days)


def _after(query: str, days: int) -> Expire:
    async def expire(connection: Connection) -> bool:
        cursor = await connection.execute(query.encode(), (days,))
        return cursor.rowcount == BATCH

    return expire
