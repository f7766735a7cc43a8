"""Tells NATS what has changed in a service's tables: told if, and only if, the change is committed.

A change is written to the table `changes` in its own transaction. One replica at a time reads these, writes each key's
value as it is by then to its bucket, and takes the change away. Now and then the keys are compared, so that a bucket
that was lost mends itself, and what has ended with time goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod

from kit import logs
from kit.bus import Bus, told_to_end
from kit.database import Connection, Database

log = logs.get("kit.telling")
TABLE = "CREATE TABLE changes (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bucket text, key text)"
"""For a service's first migration."""
_LOCK = 0x74656C6C
_EVERY_S = 0.2
_COMPARE_S = 60.0
_BATCH = 500


async def changed(connection: Connection, bucket: str, key: str) -> None:
    """Note, within a transaction, that a key has another value or none."""
    await connection.execute("INSERT INTO changes (bucket, key) VALUES (%s, %s)", (bucket, key))


class Telling(ABC):
    """For ever; a service says what the values are."""

    def __init__(self, database: Database, bus: Bus, *buckets: str) -> None:
        self._database, self._bus, self._buckets = database, bus, buckets
        self._woken = asyncio.Event()
        self._compared = 0.0

    @abstractmethod
    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """What the key's value is; None: it has none."""

    @abstractmethod
    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All keys that have a value."""

    def wake(self) -> None:
        """Something has been committed: do not wait."""
        self._woken.set()

    async def run(self) -> None:
        """What cannot be told now is told later."""
        while not told_to_end():
            try:
                more = await self._tell()
                if not more and time.monotonic() - self._compared > _COMPARE_S:
                    await self._compare()
                    self._compared = time.monotonic()
            except Exception as error:
                more = False
                log.warning("changes are not told yet", reason=repr(error))
            if more:
                continue
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), _EVERY_S)

    async def _tell(self) -> bool:
        """Whether there may be more."""
        async with self._database.transaction() as connection:
            if not await _mine(connection):
                return False
            found = await connection.execute(f"SELECT number, bucket, key FROM changes ORDER BY number LIMIT {_BATCH}")
            rows = await found.fetchall()
            for bucket, key in dict.fromkeys((bucket, key) for _, bucket, key in rows):
                await self._put(connection, bucket, key)
            await connection.execute("DELETE FROM changes WHERE number = ANY(%s)", ([row[0] for row in rows],))
        return len(rows) == _BATCH

    async def _put(self, connection: Connection, bucket: str, key: str) -> None:
        value = await self.value(connection, bucket, key)
        if value is None:
            await self._bus.delete(bucket, key)
        else:
            await self._bus.put(bucket, key, value)

    async def _compare(self) -> None:
        async with self._database.transaction() as connection:
            if not await _mine(connection):
                return
            for bucket in self._buckets:
                told, wanted = set(await self._bus.keys(bucket)), await self.keys(connection, bucket)
                for key in told ^ wanted:
                    await self._put(connection, bucket, key)


async def _mine(connection: Connection) -> bool:
    """Whether no other replica tells at this moment."""
    found = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    row = await found.fetchone()
    return bool(row and row[0])
