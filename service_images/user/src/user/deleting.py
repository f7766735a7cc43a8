"""Tenants that were deleted: their ids are never given again, whatever backup the database is restored from.

The table `deleted_tenants` has them, and so has the bucket `deleted` of NATS, which no backup of the database brings
back to an earlier state. Where only the bucket knows of a deletion, the database is an earlier one: then the tenant is
deleted again, by all services.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from kit import bus, directory, outbox, telling
from kit.database import Connection
from kit.errors import ApiError, missing
from kit.tenant_deletion import DELETED
from psycopg.rows import dict_row

from user import keys, tables
from user.models import Deletion

MARKS = "deleted"
"""A bucket of NATS: when each tenant was deleted."""


def used(when: str = "") -> ApiError:
    """The answer to who asks for the id of a tenant that was deleted."""
    message = f"A tenant with this id was deleted{when}; ids are not given again, choose another."
    return ApiError(409, message, param="id", code="tenant_id_used")


async def deleted(connection: Connection, tenant: str) -> datetime | None:
    """When a tenant was deleted; None: the database knows of no deletion."""
    cursor = await connection.execute("SELECT deleted FROM deleted_tenants WHERE id = %s", (tenant,))
    row = await cursor.fetchone()
    return row[0] if row else None


async def never_deleted(connection: Connection, tenant: str) -> None:
    """Raises ApiError(409) for the id of a tenant that was deleted."""
    if (at := await deleted(connection, tenant)) is not None:
        raise used(f" on {at:%Y-%m-%d}")


async def delete(
    connection: Connection, tenant: str, actor: str, services: Sequence[str], at: datetime | None = None
) -> list[tuple[str, str]]:
    """Delete a tenant, remember that, and have services erase what they hold of it; `at`: it was deleted then.

    Returns (tenant, id) of keys of others that are revoked with its own.
    """
    revoked = await keys.revoke(connection, tenant)
    await connection.execute("DELETE FROM tenants WHERE id = %s", (tenant,))
    await connection.execute(
        "INSERT INTO deleted_tenants (id, deleted, waiting) VALUES (%s, coalesce(%s, now()), %s)",
        (tenant, at, list(services)),
    )
    await telling.changed(connection, directory.BUCKET, bus.key(directory.TENANT, tenant))
    await telling.changed(connection, tables.POLICIES, bus.key(tenant))
    await telling.changed(connection, MARKS, bus.key(tenant))
    await outbox.put(connection, DELETED, "user", tenant, {"tenant": tenant, "actor": actor})
    return [(owner, key) for owner, key in revoked if owner != tenant]


async def found_deletion(connection: Connection, tenant: str) -> Deletion:
    """How far the deletion of a tenant is. Raises ApiError(404)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            "SELECT id AS tenant, deleted, waiting, erased FROM deleted_tenants WHERE id = %s", (tenant,)
        )
        row = await cursor.fetchone()
    if row is None:
        raise missing("deletion")
    return Deletion(**row)


async def acknowledge(connection: Connection, tenant: str, service: str) -> None:
    """A service has erased a tenant."""
    await connection.execute(
        "UPDATE deleted_tenants SET waiting = array_remove(waiting, %(service)s), "
        "erased = jsonb_build_object(%(service)s::text, now()) || erased WHERE id = %(tenant)s",
        {"tenant": tenant, "service": service},
    )
