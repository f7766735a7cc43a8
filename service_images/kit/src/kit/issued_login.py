"""The service's login for a data server from the secret store: got, renewed, and replaced before it ends.

A login lasts an hour, and each pod has one of its own. It is renewed after a third of that, so the service runs on for
40 minutes at least while the store is away. A login that cannot be renewed any more, and one from before a rotation, is
replaced: the caller gets a new one, and ends the old one once nothing uses it.

For PostgreSQL and the cache, the store makes the login there. For NATS, the pod makes it, and registers the digest of
its password in the store, where NATS' servers look it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

from prometheus_client import Gauge

from kit import logs, telemetry
from kit.secret_store import SecretStore, StoreRefused, StoreUnavailable, Token

log = logs.get("kit.issued_login")
EVERY_S = 10.0
"""Seconds between two looks for a rotation."""
_AGAIN_S = (1.0, 10.0)
"""Seconds until the next try while there is no login: first, and longest."""
_RENEWED = 1 / 3
"""Share of its time after which a login is renewed."""
_LEAST = 1 / 2
"""Share of its first time that a renewed login must last. One that lasts less is close to its longest time."""
_REGISTERED_S = 3600.0
"""Seconds that the registration of a login lasts, unless it is renewed. Data servers rely on it."""
UNTIL = Gauge(
    "issued_login_expires_timestamp_seconds",
    "When the login for a data server expires that the secret store has issued, unless it is renewed.",
    ["system"],
    registry=telemetry.REGISTRY,
)


class System(StrEnum):
    """A data server for which the store issues logins."""

    POSTGRES = "postgres"
    CACHE = "cache"
    NATS = "nats"

    @property
    def title(self) -> str:
        """Name for people."""
        return _TITLES[self]

    @property
    def suffix(self) -> str:
        """What the names of the service's role in the store, and of its count of rotations, end with."""
        return "" if self is System.POSTGRES else f".{self.value}"

    @property
    def registry(self) -> str:
        """Folder of the store's secrets in which pods register their logins; empty: the store makes the logins."""
        return f"logins.{self.value}" if self is System.NATS else ""


_TITLES = {System.POSTGRES: "PostgreSQL", System.CACHE: "the cache", System.NATS: "NATS"}


@dataclass(frozen=True)
class IssuedLogin:
    """A login for a data server, and the login at the store that it belongs to."""

    user: str
    password: str
    token: Token
    lease: str
    """What the store renews it by: the lease, or the name of its registration."""
    lasts_s: float
    """Seconds from its issue to its end, unless it is renewed."""
    rotation: int
    """Number of rotations before it was issued."""


class IssuedLogins:
    """Follows the login of this process for one system."""

    def __init__(
        self,
        store: SecretStore,
        system: System = System.POSTGRES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._system, self._clock = store, system, clock
        self.held: IssuedLogin | None = None
        """The login in use."""
        self.problem = "it has not been asked yet"
        """Why there is no newer login; empty: all is well."""
        self._until = self._renew_at = 0.0
        self._again_s = _AGAIN_S[0]
        self._refused = False
        self._written = dict[str, int]()
        """Version of each registration that was written last."""
        self._hurry = asyncio.Event()

    async def follow(self, use: Callable[[IssuedLogin], Awaitable[None]]) -> None:
        """Run until cancelled: pass each new login to `use`, which then calls `take`, or `end` and `delay`."""
        while True:
            self._hurry.clear()
            try:
                if (found := await self.round()) is not None:
                    await use(found)
            except Exception as error:  # without this task, the login would end unnoticed
                log.error("cannot follow a login", system=self._system.title, exc_info=error)
                self.delay(repr(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), self.pause_s())

    async def round(self) -> IssuedLogin | None:
        """Renew the login, or get another if it has to be replaced. The caller passes that to `take` or `end`."""
        try:
            found = await self._next()
        except (StoreUnavailable, StoreRefused) as error:
            self._trouble(str(error))
            return None
        except (KeyError, TypeError, ValueError) as error:
            self._trouble(f"the answer of the secret store has another form than expected: {error!r}")
            return None
        if self.problem and found is None:
            log.info("the secret store answers again", left_s=round(self.left_s()))
            self._well()
        return found

    def pause_s(self) -> float:
        """Seconds until the next round."""
        if self.held is not None and not self.problem:
            return EVERY_S
        again, self._again_s = self._again_s, min(self._again_s * 2, _AGAIN_S[1])
        return again

    def left_s(self) -> float:
        """Seconds that the login lasts, unless it is renewed; negative if it has ended."""
        return self._until - self._clock()

    def take(self, login: IssuedLogin) -> None:
        """From now on, this login is in use."""
        self.held, self._refused = login, False
        self._lasts(login.lasts_s)
        log.info(
            f"the secret store has issued a login for {self._system.title}",
            user=login.user,
            lasts_s=round(login.lasts_s),
        )
        self._well()

    def reject(self, login: IssuedLogin) -> None:
        """The server no longer knows the login, so `follow` gets another one at once, unless it has one already."""
        if login is self.held and not self._refused:
            self._refused = True
            self._hurry.set()

    def delay(self, reason: str) -> None:
        """A login that cannot be used yet."""
        self._trouble(reason)

    async def end(self, login: IssuedLogin) -> None:
        """End a login that nothing uses. Without an answer of the store, the login expires."""
        try:
            if self._system.registry:
                self._written.pop(login.lease, None)
                await self._store.ask("DELETE", f"kv/metadata/{login.lease}", login.token)
            await self._store.end(login.token)
        except (StoreUnavailable, StoreRefused) as error:
            said = f"a replaced login for {self._system.title} stays until it expires"
            log.warning(said, user=login.user, reason=str(error))

    async def _next(self) -> IssuedLogin | None:
        held = self.held
        if held is None or self._refused or self.left_s() <= 0:
            return await self._issue()
        try:
            if await self._rotation(held.token) > held.rotation:
                log.info(f"the login for {self._system.title} is rotated", user=held.user)
                return await self._issue()
            if self._clock() >= self._renew_at and not await self._renew(held):
                return await self._issue()
        except StoreRefused as error:
            # The store was restored, or an operator has ended the login.
            self._refused = True
            log.warning("the secret store no longer accepts this login", user=held.user, reason=str(error))
            return await self._issue()
        return None

    async def _issue(self) -> IssuedLogin:
        token = await self._store.login()
        try:
            rotation = await self._rotation(token)
            if self._system.registry:
                return await self._register(token, rotation)
            found = await self._store.ask("GET", f"database/creds/{self._store.role}{self._system.suffix}", token)
        except (StoreUnavailable, StoreRefused):
            await self._quietly_end(token)
            raise
        secret = found["data"]
        lasts_s = min(float(found["lease_duration"]), token.lasts_s)
        return IssuedLogin(
            str(secret["username"]), str(secret["password"]), token, str(found["lease_id"]), lasts_s, rotation
        )

    async def _register(self, token: Token, rotation: int) -> IssuedLogin:
        """Make a login, and register it in the store."""
        user, password = f"{self._store.role}.{secrets.token_hex(8)}", secrets.token_urlsafe(32)
        lease = f"{self._system.registry}/{user}"
        login = IssuedLogin(user, password, token, lease, min(_REGISTERED_S, token.lasts_s), rotation)
        await self._confirm(login)
        return login

    async def _confirm(self, login: IssuedLogin) -> None:
        """Write the registration, which lasts from now on. Raises StoreRefused if somebody has ended it."""
        digest = hashlib.sha256(login.password.encode()).hexdigest()
        body = {"data": {"sha256": digest}, "options": {"cas": self._written.get(login.lease, 0)}}
        found = await self._store.ask("POST", f"kv/data/{login.lease}", login.token, body)
        self._written[login.lease] = int(found["data"]["version"])

    async def _quietly_end(self, token: Token) -> None:
        try:
            await self._store.end(token)
        except (StoreUnavailable, StoreRefused) as error:
            log.info("a login at the secret store stays until it expires", reason=str(error))

    async def _renew(self, held: IssuedLogin) -> bool:
        """Renew the login at the store, and the one for the server. Returns whether they last long enough."""
        token_s = await self._store.renew(held.token)
        if self._system.registry:
            await self._confirm(held)
            lease_s = _REGISTERED_S
        else:
            asked = {"lease_id": held.lease, "increment": round(held.lasts_s)}
            lease_s = float((await self._store.ask("POST", "sys/leases/renew", held.token, asked))["lease_duration"])
        self._lasts(min(token_s, lease_s))
        return min(token_s, lease_s) >= held.lasts_s * _LEAST

    async def _rotation(self, token: Token) -> int:
        """Number of rotations so far: the version of a secret of the service, whose value means nothing."""
        try:
            found = await self._store.ask("GET", f"kv/data/{self._store.role}/rotation{self._system.suffix}", token)
        except StoreRefused as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return 0
            raise
        return int(found["data"]["metadata"]["version"])

    def _lasts(self, seconds: float) -> None:
        self._until = self._clock() + seconds
        self._renew_at = self._clock() + seconds * _RENEWED
        UNTIL.labels(self._system.value).set(time.time() + seconds)

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            if self.held is None:
                log.warning(f"waiting for the secret store to issue a login for {self._system.title}", reason=problem)
            else:
                log.warning("continuing with the present login", reason=problem, left_s=round(self.left_s()))

    def _well(self) -> None:
        self.problem, self._again_s = "", _AGAIN_S[0]
