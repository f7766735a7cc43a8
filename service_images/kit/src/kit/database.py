"""A service's PostgreSQL database: connection pool, transactions, readiness."""

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
"""Longest wait for a connection in seconds. After that, the request is answered with 503."""
_JOINED: ContextVar[tuple[Database, asyncio.Task[Any] | None, Connection] | None] = ContextVar("joined", default=None)


class Database:
    """The database, opened and closed with the service."""

    def __init__(self, settings: ServiceSettings, connections: int = 8) -> None:
        # Prepared statements belong to one server connection, but PgBouncer may change it with each transaction.
        options = {"prepare_threshold": None, "connect_timeout": 5, "application_name": settings.name}
        self.name = settings.name
        """Name of the database and the service."""
        self._pool = AsyncConnectionPool(
            # Called for each new connection, so that a replaced password is used without a restart.
            lambda: settings.database(pooled=True),
            kwargs=options,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_WAIT_S,
        )

    async def open(self) -> None:
        """Start connecting. The service is ready once `check` succeeds."""
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @contextmanager
    def joined(self, connection: Connection) -> Iterator[None]:
        """Context in which transactions of this task join the connection's current transaction."""
        token = _JOINED.set((self, asyncio.current_task(), connection))
        try:
            yield
        finally:
            _JOINED.reset(token)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction, committed at the end and rolled back after an error.

        Raises ApiError(503) if the database is unavailable, and ApiError(507) if its volume is full.
        """
        if (joined := _JOINED.get()) is not None and joined[:2] == (self, asyncio.current_task()):
            async with joined[2].transaction():
                yield joined[2]
            return
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.DiskFull:
            message = "The database's volume is full; nothing was changed. Raise data.postgres.storage."
            raise ApiError(507, message, ErrorType.SERVER, code="storage_full") from None
        except (PoolTimeout, psycopg.OperationalError):
            message = "The database is unavailable; nothing was changed."
            raise ApiError(503, message, ErrorType.SERVER, code="unavailable") from None

    async def check(self) -> str | None:
        """Readiness: None if the database is available, otherwise the reason."""
        try:
            async with self._pool.connection(timeout=2) as connection:
                await connection.execute("SELECT 1")
        except (PoolTimeout, psycopg.Error) as error:
            return f"PostgreSQL: {error}"
        return None
