"""Receives tenants and keys from User, and budgets from Billing, through NATS, within a second."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from kit import bus
from kit.directory import TENANT, Directory
from kit.following import Following

from router.core import Core
from router.routes import Tenant

BUDGETS = "budgets"


class Spent(msgspec.Struct):
    """Billing's values for a tenant."""

    budget_usd: float
    spent_usd: float
    period: str


_spent = msgspec.json.Decoder(Spent)


class Tenants:
    """Follows both buckets. Received values outlive reloads of the route table."""

    def __init__(self, url: str, core: Core, login: Mapping[str, Any]) -> None:
        self._core = core
        self._directory = Directory(url, login)
        self._directory.changed = self._changed
        self._budgets = Following(url, BUDGETS, self._budget, login)

    def away_since(self) -> float | None:
        """Monotonic time since which revocations cannot be received; None while the bucket is followed."""
        return self._directory.away_since

    async def run(self) -> None:
        """Run until cancelled."""
        await asyncio.gather(self._directory.run(), self._budgets.run())

    def _changed(self, kind: str, name: str) -> None:
        accounts = self._core.accounts
        if kind != TENANT:
            accounts.grant(bytes.fromhex(name), self._directory.grants.get(bytes.fromhex(name)))
            return
        entry = self._directory.tenants.get(name)
        if entry is None:
            accounts.drop(name)
        else:
            limits = (entry.models, entry.requests_per_minute, entry.tokens_per_minute)
            names = ("models", "requests_per_minute", "tokens_per_minute")
            accounts.keep(Tenant(id=entry.id, **dict(zip(names, limits, strict=True))), self._core.now())

    def _budget(self, key: str, value: bytes | None) -> None:
        (tenant,) = bus.parts(key)
        spent = _spent.decode(value) if value else None
        self._core.accounts.budget(tenant, (spent.budget_usd, spent.spent_usd, spent.period) if spent else None)
