"""Retention: what has been kept long enough goes, a few rows at a time, in one replica at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kit import logs
from kit.bus import told_to_end
from kit.database import Connection, Database

log = logs.get("kit.retention")
BATCH = 1000
"""Rows in a transaction."""
_EVERY_S = 3600.0
_LOCK = 0x72657461
Expire = Callable[[Connection], Awaitable[bool]]
"""Removes up to `BATCH` rows that have been kept long enough; whether there may be more."""


class Retention:
    """Runs beside the requests, in each replica."""

    def __init__(self, database: Database, *expire: Expire) -> None:
        self._database, self._expire = database, expire

    async def run(self) -> None:
        """Until it is cancelled. What cannot go now goes later."""
        while not told_to_end():
            try:
                while await self.once():
                    pass
            except Exception as error:
                log.warning("what has been kept long enough stays for now", reason=repr(error))
            await asyncio.sleep(_EVERY_S)

    async def once(self) -> bool:
        """A few rows of each kind; whether there may be more."""
        more = False
        for expire in self._expire:
            async with self._database.transaction() as connection:
                cursor = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
                row = await cursor.fetchone()
                if not row or not row[0]:
                    return False
                more |= await expire(connection)
        return more
