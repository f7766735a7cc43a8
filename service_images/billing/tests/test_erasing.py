"""Deletion of a tenant: its invoices stay, without personal data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest
from billing import erasing
from billing.__main__ import BillingSettings, create
from billing_events import used
from kit.database import Database
from kit.tenant_deletion import DELETED, Erasing
from starlette.testclient import TestClient

INVOICE = "/v1/billing/tenants/acme/invoices/2026-10"
BUDGET = "/v1/billing/tenants/acme/budget"


@pytest.fixture
def delete(settings: BillingSettings) -> Callable[[str], None]:
    """Run Billing's erasure of a deleted tenant, with a repeated event."""

    async def hear(tenant: str) -> None:
        database = Database(settings)
        await database.open()
        event = {"data": {"tenant": tenant}}
        await Erasing(database, "billing", erasing.erase).handle([event, event])
        await database.close()

    return lambda tenant: asyncio.run(hear(tenant))


def test_invoices_are_kept_without_personal_data(
    priced: httpx.Client, settings: BillingSettings, delete: Callable[[str], None]
) -> None:
    priced.post("/v1/billing/usage", json=[used(user="ann@example.com"), used(tenant="other", user="bob")])
    priced.post("/v1/billing/tenants/acme/credits", json={"id": "c", "usd": "0.001", "period": "2026-10"})
    priced.put(BUDGET, json={"usd": "5"})
    before = priced.get(INVOICE).json()
    delete("acme")
    assert priced.get(INVOICE).json() == before
    assert priced.post(INVOICE).json()["total_cents"] == before["total_cents"], "the last month is still billed"
    assert priced.get("/v1/billing/tenants/acme/entitlement").status_code == 404
    refused = priced.put(BUDGET, json={"usd": "5"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "tenant_deleted")
    with psycopg.connect(settings.database(pooled=False)) as connection:
        rows = connection.execute('SELECT tenant, "user", trace FROM usage ORDER BY tenant').fetchall()
    assert rows == [("acme", "", ""), ("other", "bob", "")]


def test_late_usage_of_a_deleted_tenant_is_anonymous_and_later_usage_ignored(
    billing: httpx.Client, settings: BillingSettings, delete: Callable[[str], None]
) -> None:
    delete("acme")
    late, later = used(user="ann", time="2026-10-05T10:00:00Z"), used(user="ann", time="2999-01-01T00:00:00Z")
    assert billing.post("/v1/billing/usage", json=[late, later]).json()["taken"] == 1
    with psycopg.connect(settings.database(pooled=False)) as connection:
        assert connection.execute('SELECT id, "user" FROM usage').fetchall() == [(late["id"], "")]


def test_dead_letters_of_a_deleted_tenant_are_erased_except_the_deletion(
    billing: httpx.Client, settings: BillingSettings, delete: Callable[[str], None]
) -> None:
    columns = "topic, key, partition, position, payload, digest, reason, tries"
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        for number, (topic, key) in enumerate(
            [("usage.recorded.v1", b"acme"), ("usage.recorded.v1", b"other"), (DELETED, b"acme")]
        ):
            connection.execute(
                f"INSERT INTO dead_letters ({columns}) VALUES (%s, %s, 0, %s, '', '', '', 1)", (topic, key, number)
            )
        delete("acme")
        left = connection.execute("SELECT topic, key FROM dead_letters ORDER BY position").fetchall()
    assert left == [("usage.recorded.v1", b"other"), (DELETED, b"acme")]


def test_the_budget_of_a_deleted_tenant_is_removed_from_nats(
    settings: BillingSettings, nats_server: Any, delete: Callable[[str], None]
) -> None:
    nats_server.make_buckets("budgets", "tenants")
    settings = settings.model_copy(update={"nats_url": nats_server.url})

    with TestClient(create(settings)) as client:
        for tenant in ("acme", "other", "third"):
            client.put(f"/v1/billing/tenants/{tenant}/budget", json={"usd": "5"}).raise_for_status()
        nats_server.becomes("budgets", {"acme", "other", "third"})
        delete("acme")
        nats_server.becomes("budgets", {"other", "third"})
    delete("other")  # while no replica runs
    with TestClient(create(settings)):
        nats_server.becomes("budgets", {"third"})
