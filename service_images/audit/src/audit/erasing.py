"""A tenant that was deleted: its key and all that the key protects go; the tree, and that something happened, stay.

The log is evidence, and evidence has to outlive whom it is about: leaves, tiles and checkpoints are kept, so that every
proof that was ever given still holds. What is told of the tenant from then on has no content at all.
"""

from __future__ import annotations

from kit import events
from kit.database import Connection, Database

from audit.ledger import Ledger
from audit.sealing import Keys

SHREDDED = "audit.shredded.v1"
"""Type of the entry that a shred leaves; it is written here and goes over no topic."""
ACTOR = "service:audit"


class Erasure:
    """Of one tenant at a time."""

    def __init__(self, database: Database, ledger: Ledger, keys: Keys) -> None:
        self._database, self._ledger, self._keys = database, ledger, keys

    async def erase(self, connection: Connection, tenant: str) -> None:
        """Done twice, it does nothing more. What it writes down is the platform's own: no tenant's key seals it."""
        if await self.shred(connection, tenant, "", ACTOR):
            return
        await self._ledger.alone(connection)
        await self._keys.refuse(connection, tenant)

    async def shred(self, connection: Connection, tenant: str, whose: str, actor: str) -> bool:
        """Destroy a tenant's key, and write down for tenant `whose` who did it. False: it has no key."""
        # A log of years takes longer than a request may.
        await connection.execute("SET LOCAL statement_timeout = 0")
        if not await self._keys.shred(connection, tenant):
            return False
        data = {"tenant": whose, "change": "shredded", "actor": actor, "after": {"tenant": tenant}}
        with self._database.joined(connection):
            await self._ledger.append([events.event(SHREDDED, "audit", f"tenant/{tenant}", data)])
        return True
