"""NATS for services: one connection that comes back by itself, with the service's own login and inbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import nats
from nats.aio.client import Client

from kit import logs
from kit.settings import ServiceSettings

log = logs.get("kit.bus")


def options(settings: ServiceSettings) -> dict[str, Any]:
    """What a connection is made with: the login, and an inbox that only this service may listen to."""
    password = settings.nats_password.get_secret_value()
    login = {"user": settings.name, "password": password} if password else {}
    return {"name": settings.name, "inbox_prefix": f"_INBOX.{settings.name}".encode(), **login}


async def _note(error: Exception) -> None:
    log.debug("NATS", reason=repr(error))


async def connect(url: str, login: Mapping[str, Any], **more: Any) -> Client:
    """Connect with what `options` gave; `more` says what happens when the connection is lost."""
    return await nats.connect(url, error_cb=_note, **{**login, **more})


class Bus:
    """Connects the first time that it is used."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def _connected(self) -> Client:
        if self._client is None or self._client.is_closed:
            again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "connect_timeout": 2}
            self._client = await connect(self._settings.nats_url, options(self._settings), **again)
        return self._client

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        """Write a key of a bucket; returns when JetStream has kept it."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        await store.put(key, value)

    async def close(self) -> None:
        """Send what is waiting, and go."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
