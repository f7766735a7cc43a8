"""Deletion of tenants. The ID of a deleted tenant is never used again, even after a restore of the database.

Deletions are recorded in the table `deleted_tenants` and in the NATS bucket `deleted`, which a restore of the database
does not reset. If only the bucket has a deletion, the database was restored from an earlier backup. The tenant is then
deleted again, in all services.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kit import bus, directory, outbox, publishing
from kit.database import Connection
from kit.errors import ApiError, missing
from kit.tenant_deletion import DELETED
from psycopg.rows import dict_row

from user import keys, tables
from user.models import Deletion

MARKS = "deleted"
"""NATS bucket with the time of each tenant's deletion."""


def used(when: str = "") -> ApiError:
    """The error for a request that creates a tenant with the ID of a deleted one."""
    message = f"A tenant with this id was deleted{when}; ids are not given again, choose another."
    return ApiError(409, message, param="id", code="tenant_id_used")


async def deleted(connection: Connection, tenant: str) -> datetime | None:
    """Time of a tenant's deletion according to the database; None if there is none."""
    cursor = await connection.execute("SELECT deleted FROM deleted_tenants WHERE id = %s", (tenant,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def never_deleted(connection: Connection, tenant: str) -> None:
    """Raise ApiError(409) if a tenant with this ID was deleted."""
    if (at := await deleted(connection, tenant)) is not None:
        raise used(f" on {at:%Y-%m-%d}")


async def delete(
    connection: Connection, tenant: str, actor: str, services: Sequence[str], at: datetime | None = None
) -> list[tuple[str, str]]:
    """Delete a tenant, record that, and make services erase its data. `at`: time of an earlier deletion.

    Returns (tenant, ID) of other tenants' keys that are revoked, too.
    """
    revoked = await keys.revoke(connection, tenant)
    await connection.execute("DELETE FROM tenants WHERE id = %s", (tenant,))
    await connection.execute(
        "INSERT INTO deleted_tenants (id, deleted, waiting) VALUES (%s, coalesce(%s, now()), %s)",
        (tenant, at, list(services)),
    )
    await publishing.changed(connection, directory.BUCKET, bus.key(directory.TENANT, tenant))
    await publishing.changed(connection, tables.POLICIES, bus.key(tenant))
    await publishing.changed(connection, MARKS, bus.key(tenant))
    await outbox.put(connection, DELETED, "user", tenant, {"tenant": tenant, "actor": actor})
    return [(owner, key) for owner, key in revoked if owner != tenant]


async def found_deletion(connection: Connection, tenant: str) -> Deletion:
    """Progress of a tenant's deletion. Raises ApiError(404)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "SELECT id AS tenant, deleted, waiting, erased FROM deleted_tenants WHERE id = %s", (tenant,)
        )
        row = await cursor.fetchone()
    if row is None:
        raise missing("deletion")
    return Deletion(**row)


async def acknowledge(connection: Connection, tenant: str, service: str) -> None:
    """Record that a service has erased a tenant's data."""
    await connection.execute(
        "UPDATE deleted_tenants SET waiting = array_remove(waiting, %(service)s), "
        "erased = jsonb_build_object(%(service)s::text, now()) || erased WHERE id = %(tenant)s",
        {"tenant": tenant, "service": service},
    )
