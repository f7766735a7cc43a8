"""NATS client for services: one connection that reconnects, with the service's own login and inbox."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NoKeysError
from nats.js.kv import KeyValue

from kit import logs, nats_login
from kit.issued_login import System
from kit.nats_login import Held, NatsLogins
from kit.settings import ServiceSettings
from kit.use import Use

log = logs.get("kit.bus")
_CONNECT_S = 4.0
_LOGINS = "logins"
"""Entry of the options with the login that the secret store issues."""

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

    User and password are functions, which nats-py calls for each connection and reconnection.
    """
    login: dict[str, Any] = {}
    if settings.issues(System.NATS):

        async def enter(user: str, password: str) -> None:
            again = {"user": user, "password": password, "allow_reconnect": False, "connect_timeout": 2}
            await (await asyncio.wait_for(nats.connect(settings.nats_url, error_cb=_note, **again), _CONNECT_S)).close()

        login = {_LOGINS: nats_login.of(settings, enter)}
    elif settings.secret("nats_password"):
        login = {"user": settings.name, "password": lambda: settings.secret("nats_password")}
    return {"name": settings.name, "inbox_prefix": f"_INBOX.{settings.name}".encode(), **login}


def is_cancelled() -> bool:
    """Whether this task was cancelled. nats-py swallows cancellation while it writes, so loops must check."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _note(error: Exception) -> None:
    log.debug("NATS", reason=repr(error))


@asynccontextmanager
async def login_of(login: Mapping[str, Any]) -> AsyncIterator[Held]:
    """The login that connections with the result of `options` use. It does not end during the block.

    Raises TimeoutError if the secret store has not issued one within some seconds.
    """
    logins: NatsLogins | None = login.get(_LOGINS)
    if logins is None:
        yield Held()
        return
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_CONNECT_S):
            held = await stack.enter_async_context(logins.used())
        yield held


async def connect(url: str, login: Mapping[str, Any], **more: Any) -> Client:
    """Connect with the result of `options`, inside `login_of`. `more` sets the handling of a lost connection."""
    plain = {name: value for name, value in login.items() if name != _LOGINS}
    logins: NatsLogins | None = login.get(_LOGINS)
    if logins is None:
        return await nats.connect(url, error_cb=_note, **{**plain, **more})

    async def note(error: Exception) -> None:
        await _note(error)
        if nats_login.REFUSED in str(error):
            logins.refused()

    own = {"user": logins.user, "password": logins.password}
    return await nats.connect(url, error_cb=note, **{**plain, **own, **more})


_Heard = tuple[str, Callable[[Any], Awaitable[None]]]
"""A subject, and what receives its messages."""


class Line:
    """A connection that is made at its first use, and that changes over to each new login.

    Without a server, each use raises NatsError, OSError or TimeoutError.
    """

    def __init__(self, url: str, login: Mapping[str, Any], **more: Any) -> None:
        """`login`: result of `options`. `more` sets the handling of a lost connection."""
        self._url, self._login, self._more = url, login, more
        self._present: _Connection | None = None
        self._heard: list[_Heard] = []
        self._opening = asyncio.Lock()
        self._tasks = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def using(self) -> AsyncIterator[Client]:
        """The connection. It is not closed during the block because of a new login."""
        present = self._present if self._works() else await self._opened()
        assert present is not None
        with present.use.counted():
            yield present.client

    async def subscribe(self, subject: str, take: Callable[[Any], Awaitable[None]]) -> None:
        """Receive messages on a subject from now on, also after a reconnection or with a new login."""
        await self._opened((subject, take))

    async def close(self) -> None:
        """Flush pending messages and close the connection."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._present is not None:
            await self._present.ends.aclose()

    def _works(self) -> bool:
        return self._present is not None and not self._present.client.is_closed

    async def _opened(self, hear: _Heard | None = None) -> _Connection:
        async with self._opening:
            if not self._works():
                await self._open()
            assert self._present is not None
            if hear is not None:
                await self._present.client.subscribe(hear[0], cb=hear[1])
                self._heard.append(hear)
            return self._present

    async def _open(self) -> None:
        """Connect and subscribe, and close the connection before once nothing uses it."""
        async with AsyncExitStack() as stack:
            held = await stack.enter_async_context(login_of(self._login))
            client = await asyncio.wait_for(connect(self._url, self._login, **self._more), _CONNECT_S)
            stack.push_async_callback(client.close)
            for subject, take in self._heard:
                await client.subscribe(subject, cb=take)
            await client.flush(_CONNECT_S)
            old, self._present = self._present, _Connection(client, held, stack.pop_all())
        if held.login is not None:
            self._start(self._change(held))
        if old is not None:
            self._start(old.close())

    async def _change(self, held: Held) -> None:
        """Change over once the login is replaced."""
        await held.replaced.wait()
        while not is_cancelled():
            try:
                async with self._opening:
                    if self._present is not None and self._present.held is held:
                        await self._open()
                return
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("a connection to NATS keeps the replaced login for now", reason=repr(error))
                await asyncio.sleep(1)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Connection:
    """A connection, the login that it uses, and how both end."""

    def __init__(self, client: Client, held: Held, ends: AsyncExitStack) -> None:
        self.client, self.held, self.ends = client, held, ends
        self.use = Use()

    async def close(self) -> None:
        """Receive what is on its way, and close the connection, once nothing uses it."""
        try:
            await self.use.ended()
            with contextlib.suppress(NatsError, TimeoutError):
                await self.client.drain()
        finally:
            await self.ends.aclose()


class Conflict(Exception):
    """A key has another revision than the writer expected."""


class Bus(Line):
    """Key-value buckets. Without a server, each call raises NatsError, OSError or TimeoutError."""

    def __init__(self, settings: ServiceSettings) -> None:
        again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5, "connect_timeout": 2}
        # The client does not buffer writes while the server is unavailable: the writer gets an error and decides.
        super().__init__(settings.nats_url, options(settings), **again, pending_size=0)

    @asynccontextmanager
    async def _bucket(self, name: str) -> AsyncIterator[KeyValue]:
        async with self.using() as client:
            yield await client.jetstream(timeout=5).key_value(name)

    async def put(self, bucket: str, key: str, value: bytes, last: int | None = None) -> int:
        """Write a key of a bucket. Returns its revision once JetStream has stored it.

        `last` is the expected current revision; 0 means that the key must have no value. Raises Conflict.
        """
        async with self._bucket(bucket) as store:
            if last is None:
                return await store.put(key, value)
            try:
                return await (store.update(key, value, last) if last else store.create(key, value))
            except KeyWrongLastSequenceError:
                raise Conflict(f"{bucket}/{key} was changed by another writer") from None

    async def delete(self, bucket: str, key: str) -> None:
        """Delete a key. Followers receive the deletion."""
        async with self._bucket(bucket) as store:
            await store.delete(key)

    async def keys(self, bucket: str) -> list[str]:
        """All keys with a value."""
        async with self._bucket(bucket) as store:
            try:
                return await store.keys()
            except NoKeysError:
                return []

    async def get(self, bucket: str, key: str) -> tuple[bytes | None, int]:
        """(value, revision) of a key. Without a value: None, and the revision of its deletion or 0."""
        async with self._bucket(bucket) as store:
            try:
                entry = await store.get(key)
            except KeyNotFoundError as error:
                return None, (error.entry.revision or 0) if error.entry else 0
            return entry.value or b"", entry.revision or 0

    async def last(self, bucket: str) -> int:
        """Last revision of a bucket; 0 if nothing was written."""
        async with self.using() as client:
            info = await client.jetstream(timeout=5).stream_info(f"KV_{bucket}")
        return info.state.last_seq if info.state.messages else 0

    async def probe(self, bucket: str) -> str | None:
        """None if JetStream serves a bucket, otherwise the reason."""
        try:
            async with self._bucket(bucket) as store:
                await store.status()
        except Exception as error:
            return f"NATS: {error!r}"
        return None
