"""The login of this process for NATS that the secret store issues. All connections of the process share it.

Each connection is counted at the login that it uses. After a rotation, connections change over to the new login by
themselves, and the old one ends once no connection uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from nats.errors import Error as NatsError

from kit import logs
from kit.issued_login import IssuedLogin, IssuedLogins, System
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings
from kit.use import Use

log = logs.get("kit.nats_login")
_OVERLAP_S = 120.0
"""Longest time in seconds that connections may take to change over."""
_END_S = 3.0
REFUSED = "Authorization Violation"
"""What NATS answers to a login that it does not know."""


@dataclass(frozen=True)
class Held:
    """A login in use; without one, connections use the password of the settings."""

    login: IssuedLogin | None = None
    use: Use = field(default_factory=Use)
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there is a newer login."""


class NatsLogins:
    """Follows the login from its first use until the process ends."""

    def __init__(self, settings: ServiceSettings, enter: Callable[[str, str], Awaitable[None]]) -> None:
        """`enter` connects with a user and a password, and closes the connection. Raises NatsError, OSError or
        TimeoutError."""
        self._settings, self._enter = settings, enter
        self._held: Held | None = None
        self._logins: IssuedLogins | None = None
        self._there = asyncio.Event()
        self._tasks = set[asyncio.Task[None]]()

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[Held]:
        """Wait for a login, and count one use of it."""
        if self._logins is None:
            self._logins = IssuedLogins(SecretStore(self._settings), System.NATS)
            self._start(self._logins.follow(self._replace))
        await self._there.wait()
        assert self._held is not None
        held = self._held
        with held.use.counted():
            yield held

    def user(self) -> str:
        """Name of the present login, for a connection or a reconnection."""
        return self._held.login.user if self._held and self._held.login else ""

    def password(self) -> str:
        """Password of the present login."""
        return self._held.login.password if self._held and self._held.login else ""

    def refused(self) -> None:
        """NATS has refused the present login, so another one is needed."""
        if self._logins is not None and self._logins.held is not None:
            self._logins.reject(self._logins.held)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, login: IssuedLogin) -> None:
        """Use the login for new connections. The present one stays if NATS does not accept the new one now."""
        assert self._logins is not None
        try:
            await self._enter(login.user, login.password)
        except (NatsError, OSError, TimeoutError) as error:
            await self._logins.end(login)
            self._logins.delay(f"NATS does not accept the new login now: {error!r}")
            return
        old, self._held = self._held, Held(login)
        self._logins.take(login)
        self._there.set()
        if old is not None and old.login is not None:
            old.replaced.set()
            self._start(self._retire(self._logins, old, old.login))

    async def _retire(self, logins: IssuedLogins, old: Held, login: IssuedLogin) -> None:
        try:
            async with asyncio.timeout(_OVERLAP_S):
                await old.use.ended()
        except TimeoutError:
            log.warning("connections still use a replaced login for NATS", user=login.user, after_s=_OVERLAP_S)
        await logins.end(login)
        log.info("the login for NATS was replaced", old=login.user)

    async def end(self) -> None:
        """End the login at the store, after the event loop of the connections has ended."""
        if self._held is None or (login := self._held.login) is None:
            return
        store = SecretStore(self._settings)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await IssuedLogins(store, System.NATS).end(login)
        await store.close()


_OF_PROCESS = dict[int, tuple[ServiceSettings, NatsLogins]]()
"""By identity of the settings, which a process has once."""


def of(settings: ServiceSettings, enter: Callable[[str, str], Awaitable[None]]) -> NatsLogins:
    """The login of the process with these settings."""
    _, found = _OF_PROCESS.setdefault(id(settings), (settings, NatsLogins(settings, enter)))
    return found


def end_all() -> None:
    """End the logins of this process, which has closed all connections. Without the store, they expire."""
    while _OF_PROCESS:
        _, (_, logins) = _OF_PROCESS.popitem()
        asyncio.run(logins.end())
