"""Limits across replicas: each replica publishes its tenants' usage over NATS, fifty times a second.

Spending between two publications is predicted from the rate and counted as reserved, so that a budget ends on time:
replicas can overspend only by the change of their rates within that time. While NATS is unavailable, each replica uses
its last known values.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
from kit import bus, logs
from nats.errors import Error as NatsError

from router.core import Core
from router.tenancy import Account

log = logs.get("router.shared")
SUBJECT = "router.used"
TELL_S = 0.02
"""Seconds between two tellings of what has changed."""
TELL_ALL_S = 1.0
"""And of everything, for who is new."""
UNTOLD_S = 5 * TELL_S
"""What a replica has told is hardly ever older: a telling may be late, on a busy machine."""
GONE_S = 3.0
"""A replica that has told nothing for so long holds nothing any more."""


class Used(msgspec.Struct):
    """What one tenant took at one replica: totals since that replica's start, and what it holds now."""

    spent: float
    held: float
    requests: int
    tokens: int


class Told(msgspec.Struct):
    """One telling."""

    replica: str
    tenants: dict[str, Used]


_decode = msgspec.json.Decoder(Told).decode


@dataclass
class _Peer:
    seen: float
    tenants: dict[str, Used] = field(default_factory=dict[str, Used])
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """US dollars a second that a tenant spends there."""


class SharedLimits:
    """Tells and is told."""

    def __init__(self, url: str, core: Core, login: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._url, self._core, self._login = url, core, login
        self._replica = secrets.token_hex(8)
        self._peers: dict[str, _Peer] = {}
        self._told: dict[str, Used] = {}
        self._told_all = 0.0

    async def run(self) -> None:
        """Until it is cancelled."""
        again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.5}
        while not bus.is_cancelled():
            try:
                connection = await bus.connect(self._url, self._login, **again)
                break
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("limits are not shared between replicas now", reason=repr(error))
                await asyncio.sleep(1)
        else:
            return
        try:
            await connection.subscribe(SUBJECT, cb=self._take)
            while not bus.is_cancelled():
                await asyncio.sleep(TELL_S)
                self._forget()
                if connection.is_connected and (content := self._tell()) is not None:
                    await connection.publish(SUBJECT, content)
        finally:
            await connection.close()

    def _tell(self) -> bytes | None:
        """What has changed since the last time; once a second everything, for who is new."""
        now = {account.id: _used(account) for account in self._core.accounts.all()}
        full = self._core.now() - self._told_all >= TELL_ALL_S
        if full:
            self._told_all = self._core.now()
        changed = now if full else {name: used for name, used in now.items() if used != self._told.get(name)}
        self._told = now
        return msgspec.json.encode(Told(self._replica, changed)) if changed else None

    async def _take(self, message: Any) -> None:
        try:
            told = _decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if told.replica == self._replica:
            return
        now = self._core.now()
        peer = self._peers.setdefault(told.replica, _Peer(now))
        elapsed, peer.seen = max(now - peer.seen, TELL_S), now
        accounts = {account.id: account for account in self._core.accounts.all()}
        for name, used in told.tenants.items():
            before, peer.tenants[name] = peer.tenants.get(name), used
            peer.rates[name] = (used.spent - before.spent) / elapsed if before else 0.0
            if (account := accounts.get(name)) is not None:
                _apply(account, before, used)
                account.held_elsewhere = self._held(name)

    def _held(self, name: str) -> float:
        """What others have set aside, and will have spent by the time that they tell of it."""
        peers = [peer for peer in self._peers.values() if name in peer.tenants]
        return sum(peer.tenants[name].held + peer.rates[name] * UNTOLD_S for peer in peers)

    def _forget(self) -> None:
        """What a replica that is gone held will not be spent."""
        now = self._core.now()
        gone = [peer for peer in self._peers.values() if now - peer.seen > GONE_S]
        for peer in gone:
            for name, used in peer.tenants.items():
                used.held = peer.rates[name] = 0.0
        if gone:
            for account in self._core.accounts.all():
                account.held_elsewhere = self._held(account.id)


def _used(account: Account) -> Used:
    return Used(account.spent, account.held, account.took_requests, account.took_tokens)


def _apply(account: Account, before: Used | None, now: Used) -> None:
    """Take from this replica's limits what another one took. Rates of before it was heard of are over."""
    account.spent_elsewhere += now.spent - (before.spent if before else 0.0)
    if before is None:
        return
    if account.requests is not None:
        account.requests.settle(before.requests - now.requests)
    if account.tokens is not None:
        account.tokens.settle(before.tokens - now.tokens)
