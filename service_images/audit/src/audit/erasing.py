"""Erases a deleted tenant: destroys its key and all encrypted content. Entries and the Merkle tree stay.

The log is evidence that must outlive its subjects. Leaves, tiles and checkpoints are kept, so that all proofs stay
valid. Later entries about the tenant have no content.
"""

from __future__ import annotations

from kit import events
from kit.database import Connection, Database
from kit.errors import unavailable

from audit.ledger import Ledger
from audit.sealing import Keys

SHREDDED = "audit.shredded.v1"
"""Type of the entry that records a shredding. It is written here, without a topic."""
ACTOR = "service:audit"


class Erasure:
    """Erases one tenant at a time."""

    def __init__(self, database: Database, ledger: Ledger, keys: Keys) -> None:
        self._database, self._ledger, self._keys = database, ledger, keys

    async def erase(self, connection: Connection, tenant: str) -> None:
        """Erase a tenant. Can be repeated. The entry about it belongs to the platform and is not encrypted."""
        if await self.shred(connection, tenant, "", ACTOR):
            return
        await self._ledger.alone(connection)
        await self._keys.refuse(connection, tenant)

    async def shred(self, connection: Connection, tenant: str, whose: str, actor: str) -> bool:
        """Destroy a tenant's key, and record that in an entry of tenant `whose`. Returns False if it has no key.

        The key in the secret store is destroyed once the transaction is committed. Raises ApiError(503) if the store
        is away and has not opened the key of `whose` yet.
        """
        if await self._keys.prepare(self._database, {whose}):
            raise unavailable("The secret store, which holds the key of the entry about the shredding,")
        # A log of years takes longer than the usual limit.
        await connection.execute("SET LOCAL statement_timeout = 0")
        if not await self._keys.shred(connection, tenant):
            return False
        data = {"tenant": whose, "change": "shredded", "actor": actor, "after": {"tenant": tenant}}
        await self._ledger.record(connection, [events.event(SHREDDED, "audit", f"tenant/{tenant}", data)])
        return True

    async def destroyed(self, tenant: str) -> bool:
        """Destroy the key in the secret store after a committed shredding. False: it follows once the store answers."""
        return await self._keys.destroy(self._database, tenant)
