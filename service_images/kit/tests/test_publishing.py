"""Changes are published one by one: no change blocks another, and revocations come first."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import psycopg
import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src")]

from kit import dead_letters, publishing  # noqa: E402
from kit.bus import Bus  # noqa: E402
from kit.database import Connection, Database  # noqa: E402
from kit.limits import NATS_VALUE  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from nats.errors import Error as NatsError  # noqa: E402

pytestmark = pytest.mark.anyio
BUCKET = "things"


class Things(publishing.Publisher):
    """Values of a table."""

    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """Value in the table."""
        cursor = await connection.execute("SELECT value FROM things WHERE key = %s", (key,))
        row = await cursor.fetchone()
        return row[0] if row else None

    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All keys."""
        cursor = await connection.execute("SELECT key FROM things")
        return {row[0] for row in await cursor.fetchall()}

    async def set(self, key: str, value: bytes | None, *, urgent: bool = False) -> None:
        """Change a value, and record the change."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM things WHERE key = %s", (key,))
            if value is not None:
                await connection.execute("INSERT INTO things VALUES (%s, %s)", (key, value))
            await publishing.changed(connection, BUCKET, key, urgent=urgent)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def there(postgres_server: Any) -> ServiceSettings:
    """A database for the module."""
    made = ServiceSettings(name="kit", **postgres_server.make_database("kit"))
    with psycopg.connect(made.database(pooled=False), autocommit=True) as connection:
        connection.execute(publishing.TABLE)
        connection.execute("ALTER TABLE changes ADD COLUMN urgent boolean NOT NULL DEFAULT false")
        connection.execute(dead_letters.TABLE)
        connection.execute("CREATE TABLE things (key text PRIMARY KEY, value bytea)")
    return made


@pytest.fixture
async def things(there: ServiceSettings, nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Things]:
    await asyncio.to_thread(nats_server.make_buckets, BUCKET)
    settings = there.model_copy(update={"nats_url": nats_server.url})
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("TRUNCATE changes, dead_letters, things")
    database, bus = Database(settings), Bus(settings)
    await database.open()
    monkeypatch.setattr(publishing, "_AGAIN_S", (0.01, 0.01))
    yield Things(database, bus, BUCKET)
    await bus.close()
    await database.close()


@pytest.fixture
async def order(nats_server: Any, things: Things) -> AsyncIterator[list[str]]:
    """Keys in the order in which they are written to the bucket."""
    connection = await nats.connect(nats_server.url)
    seen: list[str] = []

    async def note(message: Any) -> None:
        seen.append(message.subject.removeprefix(f"$KV.{BUCKET}."))

    await connection.subscribe(f"$KV.{BUCKET}.>", cb=note)
    yield seen
    await connection.close()


async def _aside(things: Things) -> list[tuple[str, bytes, str]]:
    async with things._database.transaction() as connection:
        cursor = await connection.execute("SELECT topic, key, reason FROM dead_letters ORDER BY number")
        return await cursor.fetchall()


async def test_a_value_that_is_too_large_does_not_block_others(things: Things) -> None:
    await things.set("large", b"x" * (NATS_VALUE.most + 1))
    await things.set("other", b"1")
    await things._publish_batch()
    assert await things._bus.keys(BUCKET) == ["other"]
    ((topic, key, reason),) = await _aside(things)
    assert (topic, key) == (f"nats/{BUCKET}", b"large")
    assert "value of a NATS bucket: at most" in reason


async def test_a_key_that_can_be_published_again_leaves_no_letter(things: Things) -> None:
    await things.set("large", b"x" * (NATS_VALUE.most + 1))
    await things._publish_batch()
    await things.set("large", b"small now")
    await asyncio.sleep(0.02)
    await things._publish_batch()
    assert (await things._bus.keys(BUCKET), await _aside(things)) == (["large"], [])


async def test_a_value_that_cannot_be_made_is_set_aside_after_some_tries(
    things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = things.value

    async def value(connection: Connection, bucket: str, key: str) -> bytes | None:
        if key == "bad":
            raise ValueError("no such value")
        return await usual(connection, bucket, key)

    monkeypatch.setattr(things, "value", value)
    await things.set("bad", b"1")
    await things.set("good", b"1")
    while not await _aside(things):
        await things._publish_batch()
    assert await things._bus.keys(BUCKET) == ["good"]
    monkeypatch.setattr(things, "value", usual)
    await asyncio.sleep(0.02)
    await things._publish_batch()
    assert (sorted(await things._bus.keys(BUCKET)), await _aside(things)) == (["bad", "good"], [])


async def test_revocations_are_published_before_all_other_changes(things: Things, order: list[str]) -> None:
    for number in range(5):
        await things.set(f"key-{number}", b"1")
    await things.set("revoked", None, urgent=True)
    await things._publish_batch()
    while len(order) < 6:
        await asyncio.sleep(0.01)
    assert order[0] == "revoked"


async def test_all_changes_wait_while_nats_is_unavailable(
    things: Things, nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_TRIES", 1)
    await things.set("a", b"1")
    nats_server.kill()
    with pytest.raises((NatsError, OSError, TimeoutError)):
        await things._publish_batch()
    assert await _aside(things) == []
    nats_server.start()
    deadline = asyncio.get_running_loop().time() + 20
    while True:
        try:
            await things._publish_batch()
            break
        except (NatsError, OSError, TimeoutError):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.1)
    assert await things._bus.keys(BUCKET) == ["a"]
