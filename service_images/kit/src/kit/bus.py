"""NATS client for services: one connection that reconnects, with the service's own login and inbox."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import nats
from nats.aio.client import Client
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError

from kit import logs
from kit.settings import ServiceSettings

log = logs.get("kit.bus")
_CONNECT_S = 4.0

_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_QUOTED = re.compile(r"=([0-9A-F]{2})")


def key(*parts: str) -> str:
    """Bucket key from parts with any text, joined by dots. Characters that NATS does not allow become `=XX`."""
    return ".".join(
        _PLAIN.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), part) for part in parts
    )


def parts(key: str) -> list[str]:
    """The parts that `key` was built from."""
    return [
        _QUOTED.sub(lambda found: chr(int(found[1], 16)), part).encode("latin-1").decode(errors="replace")
        for part in key.split(".")
    ]


def options(settings: ServiceSettings) -> dict[str, Any]:
    """Connection options: the login, and an inbox that only this service may subscribe to.

    The password is a function, which nats-py calls for each connection and reconnection.
    """
    login: dict[str, Any] = {}
    if settings.secret("nats_password"):
        login = {"user": settings.name, "password": lambda: settings.secret("nats_password")}
    return {"name": settings.name, "inbox_prefix": f"_INBOX.{settings.name}".encode(), **login}


def is_cancelled() -> bool:
    """Whether this task was cancelled. nats-py swallows cancellation while it writes, so loops must check."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _note(error: Exception) -> None:
    log.debug("NATS", reason=repr(error))


async def connect(url: str, login: Mapping[str, Any], **more: Any) -> Client:
    """Connect with the result of `options`. `more` sets the handling of a lost connection."""
    return await nats.connect(url, error_cb=_note, **{**login, **more})


class Conflict(Exception):
    """A key has another revision than the writer expected."""


class Bus:
    """Connects at its first use. Without a server, each call raises NatsError, OSError or TimeoutError."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def _connected(self) -> Client:
        if self._client is None or self._client.is_closed:
            again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "connect_timeout": 2}
            # The client does not buffer writes while the server is unavailable: the writer gets an error and decides.
            again["pending_size"] = 0
            connecting = connect(self._settings.nats_url, options(self._settings), **again)
            self._client = await asyncio.wait_for(connecting, _CONNECT_S)
        return self._client

    async def put(self, bucket: str, key: str, value: bytes, last: int | None = None) -> int:
        """Write a key of a bucket. Returns its revision once JetStream has stored it.

        `last` is the expected current revision; 0 means that the key must have no value. Raises Conflict.
        """
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        if last is None:
            return await store.put(key, value)
        try:
            return await (store.update(key, value, last) if last else store.create(key, value))
        except KeyWrongLastSequenceError:
            raise Conflict(f"{bucket}/{key} was changed by another writer") from None

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key. Followers receive the deletion."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        await store.delete(key)

    async def keys(self, bucket: str) -> list[str]:
        """All keys with a value."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        try:
            return await store.keys()
        except NoKeysError:
            return []

    async def get(self, bucket: str, key: str) -> tuple[bytes | None, int]:
        """(value, revision) of a key. Without a value: None, and the revision of its deletion or 0."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        try:
            entry = await store.get(key)
        except KeyNotFoundError as error:
            return None, (error.entry.revision or 0) if error.entry else 0
        return entry.value or b"", entry.revision or 0

    async def last(self, bucket: str) -> int:
        """Last revision of a bucket; 0 if nothing was written."""
        client = await self._connected()
        info = await client.jetstream(timeout=5).stream_info(f"KV_{bucket}")
        return info.state.last_seq if info.state.messages else 0

    async def subscribe(self, subject: str, take: Callable[[Any], Awaitable[None]]) -> None:
        """Receive messages on a subject from now on, also after a reconnection."""
        client = await self._connected()
        await client.subscribe(subject, cb=take)

    async def probe(self, bucket: str) -> str | None:
        """None if JetStream serves a bucket, otherwise the reason."""
        try:
            client = await self._connected()
            store = await client.jetstream(timeout=5).key_value(bucket)
            await store.status()
        except Exception as error:
            return f"NATS: {error!r}"
        return None

    async def close(self) -> None:
        """Flush pending messages and close the connection."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
