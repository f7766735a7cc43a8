"""Publishes tenants, keys and policies to other services, and deletions, which User reads itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from kit import bus, directory, logs
from kit.bus import Bus
from kit.database import Connection, Database
from kit.directory import TenantEntry
from kit.errors import unavailable
from kit.publishing import Publisher
from nats.errors import Error as NatsError

from user import deleting, keys
from user.deleting import MARKS
from user.tables import POLICIES, VALID

log = logs.get("user.publishing")
ACTOR = "service:user"


class TenantPublisher(Publisher):
    """Published values, from the database."""

    def __init__(self, database: Database, nats: Bus, erased_by: Sequence[str] = ()) -> None:
        """`erased_by`: services that acknowledge the deletion of a tenant."""
        super().__init__(database, nats, MARKS, directory.BUCKET, POLICIES)
        self._erased_by = erased_by

    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """The current value of a key in a bucket. Deletions may exist in the bucket only."""
        *kind, name = bus.parts(key)
        if bucket == MARKS:
            return await self._mark(connection, name)
        if bucket == POLICIES:
            cursor = await connection.execute("SELECT policy FROM tenants WHERE id = %s", (name,))
            row = await cursor.fetchone()
            return msgspec.json.encode(row[0]) if row and row[0] is not None else None
        if kind == [directory.TENANT]:
            cursor = await connection.execute(
                "SELECT id, models, requests_per_minute, tokens_per_minute FROM tenants WHERE id = %s", (name,)
            )
            row = await cursor.fetchone()
            return msgspec.json.encode(TenantEntry(row[0], tuple(row[1]), row[2], row[3])) if row else None
        grant = await keys.published(connection, name)
        return msgspec.json.encode(grant) if grant else None

    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All keys of a bucket."""
        if bucket == MARKS:
            cursor = await connection.execute("SELECT id FROM deleted_tenants")
            return {bus.key(row[0]) for row in await cursor.fetchall()}
        if bucket == POLICIES:
            cursor = await connection.execute("SELECT id FROM tenants WHERE policy IS NOT NULL")
            return {bus.key(row[0]) for row in await cursor.fetchall()}
        cursor = await connection.execute("SELECT id FROM tenants")
        found = {bus.key(directory.TENANT, row[0]) for row in await cursor.fetchall()}
        cursor = await connection.execute(f"SELECT digest FROM keys WHERE {VALID}")
        return found | {bus.key(directory.KEY, row[0]) for row in await cursor.fetchall()}

    async def marked(self, tenant: str) -> bool:
        """Whether NATS has a record of a tenant's deletion. Raises ApiError(503)."""
        try:
            value, _ = await self._bus.get(MARKS, bus.key(tenant))
        except (NatsError, OSError, TimeoutError):
            raise unavailable("NATS, which stores the IDs of deleted tenants,") from None
        return value is not None

    async def _mark(self, connection: Connection, tenant: str) -> bytes | None:
        if (deleted := await deleting.deleted(connection, tenant)) is not None:
            return deleted.isoformat().encode()
        known, _ = await self._bus.get(MARKS, bus.key(tenant))
        if known is not None:
            log.warning("the database is from before the deletion of a tenant: it is deleted again", tenant=tenant)
            at = datetime.fromisoformat(known.decode())
            await deleting.delete(connection, tenant, ACTOR, self._erased_by, at)
        return known
