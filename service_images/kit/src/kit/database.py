"""A service's PostgreSQL database: a pool of connections, transactions, readiness."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from kit.errors import ApiError, ErrorType
from kit.settings import ServiceSettings

Connection = psycopg.AsyncConnection[Any]
_WAIT_S = 5.0
"""For a connection; a request that waits longer is answered with 503."""
_JOINED: ContextVar[tuple[Database, asyncio.Task[Any] | None, Connection] | None] = ContextVar("joined", default=None)


class Database:
    """Opened with the service and closed with it."""

    def __init__(self, settings: ServiceSettings, connections: int = 8) -> None:
        # Server-side preparation belongs to one server connection; the pool in front hands out another each time.
        options = {"prepare_threshold": None, "connect_timeout": 5, "application_name": settings.name}
        self.name = settings.name
        """Of the database, and the service."""
        self._pool = AsyncConnectionPool(
            settings.database(pooled=True),
            kwargs=options,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_WAIT_S,
        )

    async def open(self) -> None:
        """Begin to connect; the service is ready once `check` says so."""
        await self._pool.open()

    async def close(self) -> None:
        """Give all connections back."""
        await self._pool.close()

    @contextmanager
    def joined(self, connection: Connection) -> Iterator[None]:
        """Transactions of this task are parts of the one that the connection is in, until the end of the block."""
        token = _JOINED.set((self, asyncio.current_task(), connection))
        try:
            yield
        finally:
            _JOINED.reset(token)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction: committed at the end, rolled back on an error.

        Raises ApiError(503) without a database, and ApiError(507) where its volume is full.
        """
        if (joined := _JOINED.get()) is not None and joined[:2] == (self, asyncio.current_task()):
            async with joined[2].transaction():
                yield joined[2]
            return
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.DiskFull:
            message = "The database's volume is full; nothing was changed. A larger one is data.postgres.storage."
            raise ApiError(507, message, ErrorType.SERVER, code="storage_full") from None
        except (PoolTimeout, psycopg.OperationalError):
            message = "The database does not answer now; nothing was changed."
            raise ApiError(503, message, ErrorType.SERVER, code="unavailable") from None

    async def check(self) -> str | None:
        """Readiness: None when the database answers."""
        try:
            async with self._pool.connection(timeout=2) as connection:
                await connection.execute("SELECT 1")
        except (PoolTimeout, psycopg.Error) as error:
            return f"PostgreSQL: {error}"
        return None
