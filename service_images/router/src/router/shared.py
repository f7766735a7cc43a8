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
"""Seconds between two messages with changed values."""
TELL_ALL_S = 1.0
"""Seconds between two messages with all values, for new replicas."""
UNTOLD_S = 5 * TELL_S
"""Highest usual age of a replica's values in seconds: a message may be late on a busy machine."""
GONE_S = 3.0
"""Seconds of silence after which a replica's reservations are dropped."""


class Used(msgspec.Struct):
    """Usage of one tenant at one replica: totals since the replica's start, and current reservations."""

    spent: float
    held: float
    requests: int
    tokens: int


class Message(msgspec.Struct):
    """Changed usage of one replica."""

    replica: str
    tenants: dict[str, Used]


_decode = msgspec.json.Decoder(Message).decode


@dataclass
class _Peer:
    seen: float
    tenants: dict[str, Used] = field(default_factory=dict[str, Used])
    rates: dict[str, float] = field(default_factory=dict[str, float])
    """US dollars that the tenant spends there per second."""


class SharedLimits:
    """Publishes and receives usage."""

    def __init__(self, url: str, core: Core, login: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._url, self._core, self._login = url, core, login
        self._replica = secrets.token_hex(8)
        self._peers: dict[str, _Peer] = {}
        self._published: dict[str, Used] = {}
        self._published_all = 0.0

    async def run(self) -> None:
        """Run until cancelled."""
        line = bus.Line(self._url, self._login, max_reconnect_attempts=-1, reconnect_time_wait=0.5)
        try:
            while not bus.is_cancelled():
                try:
                    await line.subscribe(SUBJECT, self._take)
                    break
                except (NatsError, OSError, TimeoutError) as error:
                    log.warning("limits are not shared between replicas now", reason=repr(error))
                    await asyncio.sleep(1)
            while not bus.is_cancelled():
                await asyncio.sleep(TELL_S)
                self._forget()
                async with line.using() as connection:
                    if connection.is_connected and (content := self._message()) is not None:
                        await connection.publish(SUBJECT, content)
        finally:
            await line.close()

    def _message(self) -> bytes | None:
        """Changes since the last message; once a second all values, for new replicas."""
        now = {account.id: _used(account) for account in self._core.accounts.all()}
        full = self._core.now() - self._published_all >= TELL_ALL_S
        if full:
            self._published_all = self._core.now()
        changed = now if full else {name: used for name, used in now.items() if used != self._published.get(name)}
        self._published = now
        return msgspec.json.encode(Message(self._replica, changed)) if changed else None

    async def _take(self, message: Any) -> None:
        try:
            received = _decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if received.replica == self._replica:
            return
        now = self._core.now()
        peer = self._peers.setdefault(received.replica, _Peer(now))
        elapsed, peer.seen = max(now - peer.seen, TELL_S), now
        accounts = {account.id: account for account in self._core.accounts.all()}
        for name, used in received.tenants.items():
            before, peer.tenants[name] = peer.tenants.get(name), used
            peer.rates[name] = (used.spent - before.spent) / elapsed if before else 0.0
            if (account := accounts.get(name)) is not None:
                _apply(account, before, used)
                account.held_elsewhere = self._held(name)

    def _held(self, name: str) -> float:
        """Reservations of other replicas, and their predicted spending until their next message."""
        peers = [peer for peer in self._peers.values() if name in peer.tenants]
        return sum(peer.tenants[name].held + peer.rates[name] * UNTOLD_S for peer in peers)

    def _forget(self) -> None:
        """Drop the reservations of ended replicas."""
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
    """Apply another replica's usage to this replica's limits. Usage before the first message is ignored for rates."""
    account.spent_elsewhere += now.spent - (before.spent if before else 0.0)
    if before is None:
        return
    if account.requests is not None:
        account.requests.settle(before.requests - now.requests)
    if account.tokens is not None:
        account.tokens.settle(before.tokens - now.tokens)
