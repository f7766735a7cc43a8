"""A service's PostgreSQL database: connection pool, transactions, readiness.

With a secret store, a new login comes with a new pool: new transactions use it, and the old pool and its login end once
the last transaction there has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from kit import logs
from kit.errors import ApiError, ErrorType
from kit.issued_login import IssuedLogin, IssuedLogins, System
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings
from kit.use import Use

log = logs.get("kit.database")
Connection = psycopg.AsyncConnection[Any]
_WAIT_S = 5.0
"""Longest wait for a connection in seconds. After that, the request is answered with 503."""
_OVERLAP_S = 120.0
"""Longest time in seconds that transactions of a replaced login may take: twice the longest that PostgreSQL allows."""
_END_S = 3.0
_JOINED: ContextVar[tuple[Database, asyncio.Task[Any] | None, Connection] | None] = ContextVar("joined", default=None)


_UNKNOWN = ("no such user", "authentication failed")
"""In the answers of PgBouncer and PostgreSQL to a login that they do not know, or that has expired."""


def _reporting(rejected: Callable[[], None]) -> type[Connection]:
    """Connections that report when the server does not know their login."""

    class Reporting(psycopg.AsyncConnection[Any]):
        """A connection of one pool."""

        @classmethod
        async def connect(cls, *arguments: Any, **options: Any) -> Any:
            """Connect as psycopg does."""
            try:
                return await super().connect(*arguments, **options)
            except psycopg.OperationalError as error:
                if any(text in str(error) for text in _UNKNOWN):
                    rejected()
                raise

    return Reporting


class _Pool:
    """A pool for one login, which counts its users."""

    def __init__(
        self,
        conninfo: str | Callable[[], str],
        connections: int,
        name: str,
        rejected: Callable[[], None] = lambda: None,
    ) -> None:
        """`rejected` is called when the server does not know the login."""
        # Prepared statements belong to one server connection, but PgBouncer may change it with each transaction.
        options = {"prepare_threshold": None, "connect_timeout": 5, "application_name": name}
        self.pool = AsyncConnectionPool(
            conninfo,
            connection_class=_reporting(rejected),
            kwargs=options,
            min_size=1,
            max_size=connections,
            open=False,
            timeout=_WAIT_S,
        )
        self._use = Use()

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Connection]:
        """A connection for one transaction."""
        with self._use.counted():
            async with self.pool.connection(timeout) as connection:
                yield connection

    async def unused(self) -> None:
        """Wait until nobody uses a connection."""
        await self._use.ended()


class Database:
    """The database, opened and closed with the service."""

    def __init__(self, settings: ServiceSettings, connections: int = 8, logins: IssuedLogins | None = None) -> None:
        """`logins`: for tests. Default: those of the secret store, if the settings have one."""
        self.name = settings.name
        """Name of the database and the service."""
        self._settings, self._connections = settings, connections
        self._store = SecretStore(settings) if settings.issues(System.POSTGRES) else None
        self._logins = logins or (IssuedLogins(self._store) if self._store else None)
        # Called for each new connection, so that a replaced password is used without a restart.
        self._pool = None if self._logins else self._new(lambda: settings.database(pooled=True))
        self._tasks = set[asyncio.Task[None]]()

    def _new(self, conninfo: str | Callable[[], str], rejected: Callable[[], None] = lambda: None) -> _Pool:
        return _Pool(conninfo, self._connections, self.name, rejected)

    async def open(self) -> None:
        """Start connecting. The service is ready once `check` succeeds."""
        if self._logins is not None:
            self._start(self._logins.follow(functools.partial(self._replace, self._logins)))
        elif self._pool is not None:
            await self._pool.pool.open()

    async def close(self) -> None:
        """Close all connections, and end the login."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._pool is not None:
            await self._pool.pool.close()
        if self._logins is not None and self._logins.held is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_S):
                    await self._logins.end(self._logins.held)
        if self._store is not None:
            await self._store.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, logins: IssuedLogins, login: IssuedLogin) -> None:
        """Open a pool with the login. The present one stays if PostgreSQL does not accept the login now."""
        conninfo = self._settings.database(pooled=True, login=(login.user, login.password))
        # A database that is restored to an earlier moment has lost the logins that were issued after it.
        new = self._new(conninfo, functools.partial(logins.reject, login))
        try:
            await new.pool.open(wait=True, timeout=_WAIT_S)
        except PoolTimeout as error:
            await new.pool.close()
            await logins.end(login)
            logins.delay(f"PostgreSQL does not accept the new login now: {error}")
            return
        old, held = self._pool, logins.held
        self._pool = new
        logins.take(login)
        if old is not None and held is not None:
            self._start(self._retire(logins, old, held))

    async def _retire(self, logins: IssuedLogins, old: _Pool, held: IssuedLogin) -> None:
        try:
            async with asyncio.timeout(_OVERLAP_S):
                await old.unused()
        except TimeoutError:
            log.warning("transactions of a replaced login are ended", user=held.user, after_s=_OVERLAP_S)
        finally:
            await old.pool.close()
        await logins.end(held)
        log.info("the login for PostgreSQL was replaced", old=held.user)

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
        if self._pool is None:
            message = f"There is no login for the database yet; nothing was changed. {self._waiting()}"
            raise ApiError(503, message, ErrorType.SERVER, code="unavailable")
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.errors.DiskFull:
            message = "The database's volume is full; nothing was changed. Raise data.postgres.storage."
            raise ApiError(507, message, ErrorType.SERVER, code="storage_full") from None
        except (PoolTimeout, psycopg.OperationalError) as error:
            log.warning("a transaction failed", reason=repr(error))
            message = "The database is unavailable; nothing was changed."
            raise ApiError(503, message, ErrorType.SERVER, code="unavailable") from None

    async def check(self) -> str | None:
        """Readiness: None if the database is available, otherwise the reason."""
        if self._pool is None:
            return self._waiting()
        try:
            async with self._pool.connection(timeout=2) as connection:
                await connection.execute("SELECT 1")
        except (PoolTimeout, psycopg.Error) as error:
            return f"PostgreSQL: {error}{f'; {self._waiting()}' if self._logins and self._logins.problem else ''}"
        return None

    def _waiting(self) -> str:
        """What a new login waits for."""
        return f"waiting for a login from the secret store: {self._logins.problem if self._logins else ''}"
