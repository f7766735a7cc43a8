"""Retention: deletes expired rows in small batches, in one replica at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kit import logs
from kit.bus import is_cancelled
from kit.database import Connection, Database

log = logs.get("kit.retention")
BATCH = 1000
"""Most rows per transaction."""
_EVERY_S = 3600.0
_LOCK = 0x72657461
Expire = Callable[[Connection], Awaitable[bool]]
"""Deletes up to `BATCH` expired rows. Returns whether there may be more."""


class Retention:
    """Background task of each replica."""

    def __init__(self, database: Database, *expire: Expire) -> None:
        self._database, self._expire = database, expire

    async def run(self) -> None:
        """Run until cancelled. Failed deletions are retried later."""
        while not is_cancelled():
            try:
                while await self.once():
                    pass
            except Exception as error:
                log.warning("cannot delete expired rows now", reason=repr(error))
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> bool:
        """Delete one batch of each kind. Returns whether there may be more."""
        more = False
        for expire in self._expire:
            async with self._database.transaction() as connection:
                cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
                row = await cursor.fetchone()
                if not row or not row[0]:
                    return False
                more |= await expire(connection)
        return more
