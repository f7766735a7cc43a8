"""The content of entries expires after its class's retention; proofs stay valid."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from audit import verify
from audit.__main__ import TOPICS, AuditSettings, Log
from audit.expiring import CLASSES, SECURITY, Expiring, class_of
from audit_events import event
from kit.database import Database
from kit.retention import Retention

Write = Callable[..., list[int]]
DAYS = {"usage": 30, "content": 60, "money": 90, SECURITY: 120}
TYPES = {"usage": "usage.recorded.v1", "content": "prompt.changed.v1", "money": "invoice.issued.v1"}


def old(days: int, kind: str) -> dict[str, Any]:
    time = (datetime.now(UTC) - timedelta(days=days)).isoformat().replace("+00:00", "Z")
    name = TYPES.get(kind, "user.changed.v1")
    return event(type=f"dev.cogniforge.{name}", time=time, data={"tenant": "acme", "secret": f"{kind} of {days} days"})


@pytest.fixture
def expire(settings: AuditSettings) -> Callable[[], None]:
    """Run Audit's hourly task."""

    async def once() -> None:
        log = Log.of(settings, database := Database(settings))
        await database.open()
        retention = Retention(database, *Expiring(log.ledger).after(DAYS))
        while await retention.once():
            pass
        await database.close()

    return lambda: asyncio.run(once())


def test_contents_expire_after_their_retention_and_the_log_records_it(
    audit: httpx.Client, write: Write, expire: Callable[[], None]
) -> None:
    write(*(old(days, kind) for kind in DAYS for days in (20, 40, 70, 100, 130)))
    before = audit.get("/v1/audit/events/7/proof", params={"size": 20}).json()
    expire()
    shown = audit.get("/v1/audit/events", params={"tenant": "acme"}).json()["entries"]
    kept = [entry["data"]["secret"] for entry in shown if "data" in entry]
    expected = [f"{kind} of {days} days" for kind in DAYS for days in (20, 40, 70, 100, 130) if days < DAYS[kind]]
    assert kept == expected
    assert all(entry["expired"] is True and "subject" not in entry for entry in shown if "data" not in entry)
    said = audit.get("/v1/audit/events", params={"type": "dev.cogniforge.audit.expired.v1"}).json()["entries"]
    gone = {entry["data"]["after"]["class"]: entry["data"]["after"]["entries"] for entry in said}
    assert gone == {"usage": 4, "content": 3, "money": 2, SECURITY: 1}
    assert audit.get("/v1/audit/events/7/proof", params={"size": 20}).json() == before
    export = audit.get("/v1/audit/tenants/acme/export").text.splitlines()
    found = verify.export(export, audit.get("/v1/audit/key").text)
    assert (found.statement.count, found.shredded) == (20, 10)
    expire()
    again = audit.get("/v1/audit/events", params={"type": "dev.cogniforge.audit.expired.v1"}).json()["entries"]
    assert again == said, "nothing goes twice"


def test_expired_content_is_deleted_from_the_database(
    settings: AuditSettings, write: Write, expire: Callable[[], None]
) -> None:
    write(old(40, "usage"))
    expire()
    with psycopg.connect(settings.database(pooled=False)) as connection:
        row = connection.execute("SELECT subject, content, leaf FROM entries WHERE number = 0").fetchone()
    assert row is not None and row[:2] == (None, None)
    assert "secret" not in row[2].decode() and json.loads(row[2])["content"]


@pytest.mark.parametrize("topic", TOPICS)
def test_each_event_has_a_class(topic: str) -> None:
    assert class_of(f"dev.cogniforge.{topic}") in DAYS
    assert {kind for kinds in CLASSES.values() for kind in kinds} <= set(TOPICS)
