"""Publishes the remaining budget of each tenant to routers, as a value in NATS that is updated when it changes.

Deleted budgets are deleted from NATS, too. Other leftovers in the bucket are deleted when the service starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
from kit import logs, telemetry
from kit.bus import Bus, is_cancelled, key
from kit.database import Database
from nats.errors import Error as NatsError
from prometheus_client import Gauge

from billing import rating

log = logs.get("billing.budgets")
BUCKET = "budgets"
EVERY_S = 1.0
_LIMITS = Gauge("billing_budgets_usd", "Budgets of all tenants for this month together.", registry=telemetry.REGISTRY)
_SPENT = Gauge(
    "billing_budgets_spent_usd",
    "What the tenants that have budgets have used this month, minus credits.",
    registry=telemetry.REGISTRY,
)
_REACHED = Gauge(
    "billing_budgets_reached", "Tenants that have used up their budgets of this month.", registry=telemetry.REGISTRY
)


def limit(value: bytes) -> float:
    """The budget in USD, from a value of the bucket."""
    return msgspec.json.decode(value)["budget_usd"]


class Budgets:
    """Publishes changed budgets in an endless loop."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database, self._bus = database, bus
        self._published: dict[str, bytes] = {}
        self._compared = False

    async def run(self) -> None:
        """Run the loop. Values that cannot be published now are published later."""
        while not is_cancelled():
            try:
                await self._tell()
            except Exception as error:
                log.warning("cannot publish budgets", reason=repr(error))
                if isinstance(error, NatsError):
                    self._published.clear()
                    self._compared = False
            await asyncio.sleep(EVERY_S)

    async def _tell(self) -> None:
        now = datetime.now(UTC)
        period = now.date().replace(day=1)
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT tenant, usd FROM budgets")
            limits = dict(await cursor.fetchall())
            spent = await rating.spent(connection, period)
        _measure(limits, spent)
        gone = self._published.keys() - limits.keys()
        for name in {key(tenant) for tenant in gone} | await self._left(limits):
            await self._bus.delete(BUCKET, name)
        for tenant in gone:
            del self._published[tenant]
        for tenant, limit in limits.items():
            found = {"budget_usd": float(limit), "spent_usd": float(spent[tenant]), "period": f"{period:%Y-%m}"}
            content = msgspec.json.encode(found)
            if self._published.get(tenant) != content:
                await self._bus.put(BUCKET, key(tenant), content)
                self._published[tenant] = content

    async def _left(self, limits: Mapping[str, object]) -> set[str]:
        """Keys in the bucket whose tenants have no budget; computed once."""
        if self._compared:
            return set()
        found = set(await self._bus.keys(BUCKET)) - {key(tenant) for tenant in limits}
        self._compared = True
        return found


def _measure(limits: Mapping[str, Decimal], spent: Mapping[str, Decimal]) -> None:
    """Export sums over tenants: a series for each tenant would be too many."""
    _LIMITS.set(float(sum(limits.values())))
    _SPENT.set(float(sum(spent.values())))
    _REACHED.set(sum(spent[tenant] >= limit for tenant, limit in limits.items()))
