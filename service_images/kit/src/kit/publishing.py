"""Publishes committed changes of a service's tables to NATS buckets.

A change is recorded in the table `changes`, in its own transaction. One replica at a time reads the recorded keys,
publishes each key's current value in a separate transaction, and deletes the records. Urgent changes, such as the
revocation of an API key, come first. A key that cannot be published while NATS and the database work, for example
because its value is too large, becomes a dead letter and is retried later; it never blocks others. All keys are
compared periodically, which refills a lost bucket and removes expired values.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from kit import logs
from kit.bus import Bus, is_cancelled
from kit.database import Connection, Database
from kit.dead_letters import DeadLetters, Row
from kit.limits import NATS_VALUE

log = logs.get("kit.publishing")
TABLE = "CREATE TABLE changes (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, bucket text, key text)"
"""SQL for a service's first migration. `upgrade` adds the rest."""
_LOCK = 0x74656C6C
_EVERY_S = 0.2
_COMPARE_S = 60.0
_BATCH = 500
_TRIES = 3
"""Number of tries after which a key becomes a dead letter."""
_AGAIN_S = (1.0, 60.0)
"""(first, longest) pause in seconds before a failed key is retried. The pause doubles each time."""
_PENDING = f"""
SELECT bucket, key FROM changes
WHERE (bucket, key) NOT IN (SELECT * FROM unnest(%s::text[], %s::text[]))
GROUP BY bucket, key ORDER BY bool_or(urgent) DESC, min(number) LIMIT {_BATCH}
"""


def upgrade() -> None:
    """Migration step of a service: urgent changes, and dead letters for keys that cannot be published."""
    from alembic import op  # imports SQLAlchemy, which a running service does not need

    from kit import dead_letters

    op.execute("ALTER TABLE changes ADD COLUMN urgent boolean NOT NULL DEFAULT false")
    op.execute("CREATE INDEX changes_key ON changes (bucket, key)")
    dead_letters.upgrade()


def downgrade() -> None:
    """Migration step of a service: revert `upgrade`."""
    from alembic import op

    from kit import dead_letters

    dead_letters.downgrade()
    op.execute("DROP INDEX changes_key")
    op.execute("ALTER TABLE changes DROP COLUMN urgent")


async def changed(connection: Connection, bucket: str, key: str, *, urgent: bool = False) -> None:
    """Record a changed or deleted key within a transaction. `urgent`: publish it before all others."""
    await connection.execute("INSERT INTO changes (bucket, key, urgent) VALUES (%s, %s, %s)", (bucket, key, urgent))


class TooLarge(Exception):
    """A value exceeds the size limit of buckets."""


@dataclass
class _Failed:
    tries: int
    again: float
    """Monotonic time of the next try."""


class Publisher(ABC):
    """Publisher of a service's values."""

    def __init__(self, database: Database, bus: Bus, *buckets: str) -> None:
        self._database, self._bus, self._buckets = database, bus, buckets
        self.letters = DeadLetters(database, self._retry)
        """Dead letters for keys that cannot be published, for `dead_letters.operations`."""
        self._failed: dict[tuple[str, str], _Failed] = {}
        self._woken = asyncio.Event()
        self._compared = 0.0

    @abstractmethod
    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """Current value of a key; None if it has none."""

    @abstractmethod
    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All keys with a value."""

    def wake(self) -> None:
        """Publish now, because a change was committed."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled. Failed publications are retried."""
        counting = asyncio.create_task(self.letters.run())
        try:
            while not is_cancelled():
                try:
                    more = await self._publish_batch()
                    if not more and time.monotonic() - self._compared > _COMPARE_S:
                        await self._compare()
                        self._compared = time.monotonic()
                except Exception as error:
                    more = False
                    log.warning("changes are not published yet", reason=repr(error))
                if more:
                    continue
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), _EVERY_S)
        finally:
            counting.cancel()

    async def _publish_batch(self) -> bool:
        """Publish a batch. Returns whether there may be more."""
        now = time.monotonic()
        held = [name for name, failed in self._failed.items() if failed.again > now]
        async with self._database.transaction() as connection:
            found = await connection.execute(_PENDING, ([bucket for bucket, _ in held], [key for _, key in held]))
            pending = await found.fetchall()
        for bucket, key in pending:
            if not await self._publish(bucket, key):
                return False
        return len(pending) == _BATCH

    async def _publish(self, bucket: str, key: str) -> bool:
        """Publish one key in its own transaction. Returns False if another replica is publishing.

        Raises only if NATS or the database is unavailable; then all keys wait.
        """
        try:
            async with self._database.transaction() as connection:
                if not await _mine(connection):
                    return False
                await self._put(connection, bucket, key)
        except Exception as error:
            if reason := await self.letters.probe() or await self._bus.probe(bucket):
                log.warning("a change is not published yet", bucket=bucket, reason=reason)
                raise
            await self._note(bucket, key, error)
        else:
            self._failed.pop((bucket, key), None)
        return True

    async def _note(self, bucket: str, key: str, error: Exception) -> None:
        low, high = _AGAIN_S
        tries = self._failed[bucket, key].tries + 1 if (bucket, key) in self._failed else 1
        self._failed[bucket, key] = _Failed(tries, time.monotonic() + min(high, low * 2 ** (tries - 1)))
        if tries >= _TRIES or isinstance(error, TooLarge):
            await self.letters.put(_topic(bucket), key.encode(), b"", str(error) or repr(error), tries)

    async def _put(self, connection: Connection, bucket: str, key: str) -> None:
        found = await connection.execute(
            "SELECT max(number) FROM changes WHERE bucket = %s AND key = %s", (bucket, key)
        )
        row = await found.fetchone()
        value = await self.value(connection, bucket, key)
        if value is None:
            await self._bus.delete(bucket, key)
        elif len(value) > NATS_VALUE.most:
            raise TooLarge(f"{NATS_VALUE}; it has {len(value):,}")
        else:
            await self._bus.put(bucket, key, value)
        if row and row[0] is not None:
            await connection.execute(
                "DELETE FROM changes WHERE bucket = %s AND key = %s AND number <= %s", (bucket, key, row[0])
            )
        await self.letters.resolve(connection, _topic(bucket), key.encode())

    async def _retry(self, row: Row) -> None:
        """Publish the key of a dead letter."""
        bucket, key = row["topic"].removeprefix(_topic("")), row["key"].decode()
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            await self._put(connection, bucket, key)
        self._failed.pop((bucket, key), None)

    async def _compare(self) -> None:
        different: list[tuple[str, str]] = []
        async with self._database.transaction() as connection:
            if not await _mine(connection):
                return
            for bucket in self._buckets:
                there, wanted = set(await self._bus.keys(bucket)), await self.keys(connection, bucket)
                different += [(bucket, key) for key in there ^ wanted if (bucket, key) not in self._failed]
        for bucket, key in different:
            await self._publish(bucket, key)


def _topic(bucket: str) -> str:
    return f"nats/{bucket}"


async def _mine(connection: Connection) -> bool:
    """Whether no other replica is publishing."""
    found = await connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOCK,))
    row = await found.fetchone()
    return bool(row and row[0])
