"""Cache client for services. Each service can access its own keys only. Data may be lost at any time.

With a secret store that issues the login, a new login comes with new connections: new commands use them, and the old
connections and their login end once the last command there has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Iterator

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import AuthenticationError, RedisError

from kit import logs
from kit.issued_login import IssuedLogin, IssuedLogins, System
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings
from kit.use import Use

log = logs.get("kit.cache")
_TIMEOUT_S = 0.25
_AWAY_S = 2.0
"""Seconds without requests after a failure, so that an unavailable cache does not slow the service down further."""
_ENTER_S = 2.0
"""Longest time in seconds until the cache accepts a new login."""
_END_S = 3.0
_FAILURES = (RedisError, OSError, TimeoutError)


class _Password(CredentialProvider):
    """The service's login for each new connection, with the current password."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str, str]:
        return self._settings.name, self._settings.secret("cache_password")


class _Issued(CredentialProvider):
    """A login that the secret store has issued."""

    def __init__(self, login: IssuedLogin) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str, str]:
        return self._login.user, self._login.password


class _Connections:
    """The connections of one login. `login`: None if the store has not issued it."""

    def __init__(self, url: str, access: CredentialProvider | None, login: IssuedLogin | None = None) -> None:
        self.login, self.use = login, Use()
        self.client = redis.Redis.from_url(
            url,
            credential_provider=access,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )

    async def enter(self) -> None:
        """Open a connection. Raises RedisError, OSError or TimeoutError."""
        async with asyncio.timeout(_ENTER_S):
            await self.client.ping()

    async def close(self) -> None:
        """Close the connections once no command uses them."""
        await self.use.ended()
        await self.client.aclose()


class Cache:
    """A cache of bytes by key. A failure counts as a miss."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._url, self._prefix = settings.cache_url, f"{settings.name}:"
        self._until = 0.0
        issued = bool(settings.cache_url) and settings.issues(System.CACHE)
        self._store = SecretStore(settings) if issued else None
        self._logins = IssuedLogins(self._store, System.CACHE) if self._store else None
        self._connections: _Connections | None = None
        if settings.cache_url and not issued:
            password = _Password(settings) if settings.secret("cache_password") else None
            self._connections = _Connections(settings.cache_url, password)
        self._tasks = set[asyncio.Task[None]]()

    async def run(self) -> None:
        """Follow the login of the secret store until cancelled. Without such a login, nothing is to be done."""
        if self._logins is not None:
            await self._logins.follow(functools.partial(self._replace, self._logins))

    async def close(self) -> None:
        """Close the connections, and end the login."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                if self._connections is not None:
                    await self._connections.close()
                if self._logins is not None and self._logins.held is not None:
                    await self._logins.end(self._logins.held)
        if self._store is not None:
            await self._store.close()

    async def _replace(self, logins: IssuedLogins, login: IssuedLogin) -> None:
        """Use the login. The present one stays if the cache does not accept the new one now."""
        new = _Connections(self._url, _Issued(login), login)
        try:
            await new.enter()
        except _FAILURES as error:
            await new.close()
            await logins.end(login)
            logins.delay(f"the cache does not accept the new login now: {error!r}")
            return
        old, self._connections = self._connections, new
        self._until = 0.0
        logins.take(login)
        if old is not None and old.login is not None:
            task = asyncio.create_task(self._retire(logins, old, old.login))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _retire(self, logins: IssuedLogins, old: _Connections, login: IssuedLogin) -> None:
        await old.close()
        await logins.end(login)
        log.info("the login for the cache was replaced", old=login.user)

    def _present(self) -> _Connections | None:
        """The connections to use; None while the cache is unavailable."""
        return None if time.monotonic() < self._until else self._connections

    @contextlib.contextmanager
    def _tolerant(self, connections: _Connections) -> Iterator[redis.Redis]:
        """Context of a command. A failure is logged, and the cache is not used for a while."""
        try:
            with connections.use.counted():
                yield connections.client
        except _FAILURES as error:
            if connections is not self._connections:
                return  # it was replaced meanwhile; nothing is known about the present ones
            self._until = time.monotonic() + _AWAY_S
            log.warning("the cache is unavailable", reason=repr(error))
            if isinstance(error, AuthenticationError) and self._logins and connections.login:
                # The cache has lost its users by a restart, or an operator has ended the login.
                self._logins.reject(connections.login)

    async def get(self, *keys: str) -> list[bytes | None]:
        """Cached values of keys; None for a miss."""
        if keys and (connections := self._present()) is not None:
            with self._tolerant(connections) as client:
                return await client.mget([self._prefix + key for key in keys])
        return [None] * len(keys)

    async def put(self, values: dict[str, bytes], seconds: int) -> None:
        """Store values for some seconds, if possible."""
        if values and (connections := self._present()) is not None:
            with self._tolerant(connections) as client:
                async with client.pipeline(transaction=False) as pipeline:
                    for key, value in values.items():
                        pipeline.set(self._prefix + key, value, ex=seconds)
                    await pipeline.execute()
