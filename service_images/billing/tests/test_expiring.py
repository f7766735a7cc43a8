"""Retention in Billing: which rows expire, and which never do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from billing.__main__ import BillingSettings
from billing.expiring import expiring
from billing_events import used
from kit.database import Database
from kit.retention import Retention


@pytest.fixture
def expire(settings: BillingSettings) -> Callable[[int, int, int], None]:
    """Run Billing's hourly task."""

    async def once(*days: int) -> None:
        database = Database(settings)
        await database.open()
        retention = Retention(database, *expiring(*days))
        while await retention.once():
            pass
        await database.close()

    return lambda *days: asyncio.run(once(*days))


def _month(ago: int) -> datetime:
    now = datetime.now(UTC).replace(day=15, hour=12)
    for _ in range(ago):
        now = (now.replace(day=1) - timedelta(days=1)).replace(day=15)
    return now


def test_invoiced_usage_expires_and_other_usage_stays(
    priced: httpx.Client, settings: BillingSettings, expire: Callable[[int, int, int], None]
) -> None:
    price = {"model": "*", "kind": "input", "usd": "1", "begins": "2020-01-01T00:00:00Z"}
    priced.post("/v1/billing/prices", json=price)
    priced.post("/v1/billing/prices", json={**price, "kind": "output"})
    months = {ago: f"{_month(ago):%Y-%m}" for ago in (3, 8, 14)}
    for ago in months:
        time = f"{_month(ago):%Y-%m-%dT%H:%M:%SZ}"
        events = [used(tenant=tenant, time=time, user="ann") for tenant in ("acme", "never-invoiced")]
        priced.post("/v1/billing/usage", json=events).raise_for_status()
    for ago in sorted(months, reverse=True):
        priced.post(f"/v1/billing/tenants/acme/invoices/{months[ago]}").raise_for_status()

    def left(tenant: str) -> list[tuple[str, str]]:
        with psycopg.connect(settings.database(pooled=False)) as connection:
            query = "SELECT to_char(period, 'YYYY-MM'), \"user\" FROM usage WHERE tenant = %s ORDER BY 1 DESC"
            return connection.execute(query, (tenant,)).fetchall()

    expire(0, 0, 0)
    assert len(left("acme")) == 3, "0 is for ever"
    expire(180, 365, 0)
    assert left("acme") == [(months[3], "ann"), (months[8], "")]
    assert left("never-invoiced") == [(month, "ann") for month in months.values()], "not in the books yet"
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("UPDATE invoices SET issued = issued - make_interval(days => 4000)")
        expire(180, 365, 3660)
        rows = connection.execute("SELECT to_char(period, 'YYYY-MM') FROM invoices ORDER BY 1 DESC").fetchall()
    assert rows == [(months[3],), (months[8],)], "the newest says what is billed; another has its usage still"
