"""NATS for services: one connection that comes back by itself, with the service's own login and inbox."""

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
    """A key of a bucket from parts of any text, joined by dots; each character that NATS does not take is `=XX`."""
    return ".".join(
        _PLAIN.sub(lambda found: "".join(f"={byte:02X}" for byte in found[0].encode()), part) for part in parts
    )


def parts(key: str) -> list[str]:
    """What `key` was made of."""
    return [
        _QUOTED.sub(lambda found: chr(int(found[1], 16)), part).encode("latin-1").decode(errors="replace")
        for part in key.split(".")
    ]


def options(settings: ServiceSettings) -> dict[str, Any]:
    """What a connection is made with: the login, and an inbox that only this service may listen to."""
    password = settings.nats_password.get_secret_value()
    login = {"user": settings.name, "password": password} if password else {}
    return {"name": settings.name, "inbox_prefix": f"_INBOX.{settings.name}".encode(), **login}


def told_to_end() -> bool:
    """Whether this task was cancelled. nats-py swallows that while it writes, so that loops around it have to ask."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _note(error: Exception) -> None:
    log.debug("NATS", reason=repr(error))


async def connect(url: str, login: Mapping[str, Any], **more: Any) -> Client:
    """Connect with what `options` gave; `more` says what happens when the connection is lost."""
    return await nats.connect(url, error_cb=_note, **{**login, **more})


class Conflict(Exception):
    """A key has another revision than who writes it thought."""


class Bus:
    """Connects the first time that it is used; without a server each call raises NatsError, OSError or TimeoutError."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._client: Client | None = None

    async def _connected(self) -> Client:
        if self._client is None or self._client.is_closed:
            again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "connect_timeout": 2}
            # Nothing waits in the client for a server that is away: who writes is told, and decides what to do.
            again["pending_size"] = 0
            connecting = connect(self._settings.nats_url, options(self._settings), **again)
            self._client = await asyncio.wait_for(connecting, _CONNECT_S)
        return self._client

    async def put(self, bucket: str, key: str, value: bytes, last: int | None = None) -> int:
        """Write a key of a bucket; returns its revision when JetStream has kept it.

        `last` is the revision that it must still have, 0 where it must have no value. Raises Conflict.
        """
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        if last is None:
            return await store.put(key, value)
        try:
            return await (store.update(key, value, last) if last else store.create(key, value))
        except KeyWrongLastSequenceError:
            raise Conflict(f"{bucket}/{key} has changed meanwhile") from None

    async def delete(self, bucket: str, key: str) -> None:
        """Take a key away; who follows is told."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        await store.delete(key)

    async def keys(self, bucket: str) -> list[str]:
        """All keys that have a value."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        try:
            return await store.keys()
        except NoKeysError:
            return []

    async def get(self, bucket: str, key: str) -> tuple[bytes | None, int]:
        """A key's value and revision; without a value, the revision of its deletion, or 0 where it never had one."""
        client = await self._connected()
        store = await client.jetstream(timeout=5).key_value(bucket)
        try:
            entry = await store.get(key)
        except KeyNotFoundError as error:
            return None, (error.entry.revision or 0) if error.entry else 0
        return entry.value or b"", entry.revision or 0

    async def last(self, bucket: str) -> int:
        """The revision that was written last to a bucket; 0: none was."""
        client = await self._connected()
        info = await client.jetstream(timeout=5).stream_info(f"KV_{bucket}")
        return info.state.last_seq if info.state.messages else 0

    async def subscribe(self, subject: str, take: Callable[[Any], Awaitable[None]]) -> None:
        """Receive what is published on a subject from now on, also after the connection was lost and made anew."""
        client = await self._connected()
        await client.subscribe(subject, cb=take)

    async def probe(self, bucket: str) -> str | None:
        """None where JetStream answers for a bucket now; else why not."""
        try:
            client = await self._connected()
            store = await client.jetstream(timeout=5).key_value(bucket)
            await store.status()
        except Exception as error:
            return f"NATS: {error!r}"
        return None

    async def close(self) -> None:
        """Send what is waiting, and go."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()
