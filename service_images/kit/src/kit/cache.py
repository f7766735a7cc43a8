"""Cache client for services. Each service can access its own keys only. Data may be lost at any time."""

from __future__ import annotations

import time

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from kit import logs
from kit.settings import ServiceSettings

log = logs.get("kit.cache")
_TIMEOUT_S = 0.25
_AWAY_S = 2.0
"""Seconds without requests after a failure, so that an unavailable cache does not slow the service down further."""


class _Login(CredentialProvider):
    """The service's login for each new connection, with the current password."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str, str]:
        return self._settings.name, self._settings.secret("cache_password")


class Cache:
    """A cache of bytes by key. A failure counts as a miss."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._prefix = f"{settings.name}:"
        self._until = 0.0
        self._client = (
            redis.Redis.from_url(
                settings.cache_url,
                credential_provider=_Login(settings) if settings.secret("cache_password") else None,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),
            )
            if settings.cache_url
            else None
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _away(self, error: Exception | None = None) -> bool:
        if error is not None:
            self._until = time.monotonic() + _AWAY_S
            log.warning("the cache is unavailable", reason=repr(error))
        return self._client is None or time.monotonic() < self._until

    async def get(self, *keys: str) -> list[bytes | None]:
        """Cached values of keys; None for a miss."""
        if not keys or self._away():
            return [None] * len(keys)
        assert self._client is not None, "`_away` returns True without a client"
        try:
            return await self._client.mget([self._prefix + key for key in keys])
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)
            return [None] * len(keys)

    async def put(self, values: dict[str, bytes], seconds: int) -> None:
        """Store values for some seconds, if possible."""
        if not values or self._away():
            return
        assert self._client is not None, "`_away` returns True without a client"
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                for key, value in values.items():
                    pipeline.set(self._prefix + key, value, ex=seconds)
                await pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._away(error)
