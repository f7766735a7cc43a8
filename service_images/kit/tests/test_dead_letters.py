"""No event can block a consumer: an event that fails becomes a dead letter, and the others are processed."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psycopg
import pytest

SOURCES = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "kit" / "tests")]

from kafka_messages import Received  # noqa: E402
from kit import dead_letters, events, kafka, service  # noqa: E402
from kit.database import Database  # noqa: E402
from kit.dead_letters import DeadLetters  # noqa: E402
from kit.kafka import Events  # noqa: E402
from kit.rest import Model  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

pytestmark = pytest.mark.anyio


class Numbered(Model):
    """An event of these tests."""

    number: int
    text: str = ""


def message(number: Any, **more: Any) -> Received:
    return Received(json.dumps({"number": number, **more}).encode())


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def database(postgres_server: Any) -> ServiceSettings:
    """A database for the module."""
    made = ServiceSettings(name="kit", kafka_bootstrap="127.0.0.1:1", **postgres_server.make_database("kit"))
    with psycopg.connect(made.database(pooled=False), autocommit=True) as connection:
        connection.execute(dead_letters.TABLE)
        connection.execute("CREATE TABLE taken (number int PRIMARY KEY, text text)")
    return made


@pytest.fixture
def settings(database: ServiceSettings) -> ServiceSettings:
    """Settings with empty tables."""
    with psycopg.connect(database.database(pooled=False), autocommit=True) as connection:
        connection.execute("TRUNCATE dead_letters, taken")
    return database


class Consumer:
    """A consumer that writes events to a table."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.database = Database(settings)
        self.letters = DeadLetters(self.database, kafka.retrying(self.take, Numbered))
        self.events = Events(settings, ["usage.recorded.v1"], self.take, self.letters, Numbered)
        self.refused: set[int] = set()
        self.calls = 0

    async def take(self, events: Sequence[dict[str, Any]]) -> None:
        """Write a batch; it fails as a whole if a number is refused."""
        self.calls += 1
        async with self.database.transaction() as connection:
            for event in events:
                await connection.execute(
                    "INSERT INTO taken VALUES (%s, %s) ON CONFLICT DO NOTHING", (event["number"], event["text"])
                )
            if self.refused & {event["number"] for event in events}:
                raise RuntimeError("refused")

    async def taken(self) -> list[int]:
        """Numbers in the table."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute("SELECT number FROM taken ORDER BY number")
            return [row[0] for row in await cursor.fetchall()]

    async def aside(self) -> list[tuple[int, bytes, str, int]]:
        """Dead letters."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT position, payload, reason, tries FROM dead_letters ORDER BY number"
            )
            return await cursor.fetchall()


@pytest.fixture
async def consumer(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Consumer]:
    monkeypatch.setattr(kafka, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(kafka, "_PAUSE_S", 0.05)
    made = Consumer(settings)
    await made.database.open()
    yield made
    await made.database.close()


async def test_the_events_around_one_that_fails_are_handled(consumer: Consumer) -> None:
    consumer.refused = {3}
    messages = [message(number) for number in range(8)]
    await consumer.events.process(messages)
    assert await consumer.taken() == [0, 1, 2, 4, 5, 6, 7]
    ((place, payload, reason, tries),) = await consumer.aside()
    assert (place, json.loads(payload), tries) == (messages[3].place, {"number": 3}, 4)
    assert "refused" in reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{}", "number"),
        (b"\xff", "UTF-8"),
        (b'{"number": 1, "text": "\\u0000"}', "U+0000"),
        (b'{"number": 1, "number": 2}', "twice"),
        (b'{"number": 1, "text": "\\ud800"}', "surrogate"),
        (b"[" * 10_000, "deeper"),
        (b'{"number": 99999999999}', "out of range"),
    ],
)
async def test_an_invalid_event_becomes_a_dead_letter_with_the_reason(
    consumer: Consumer, content: bytes, words: str
) -> None:
    await consumer.events.process([message(1), Received(content), message(2)])
    assert await consumer.taken() == [1, 2]
    ((_, payload, reason, tries),) = await consumer.aside()
    assert (payload, tries) == (content, 1)
    assert words in reason


async def test_fields_of_a_newer_version_are_no_mistake(consumer: Consumer) -> None:
    await consumer.events.process([message(1, new="field")])
    assert (await consumer.taken(), await consumer.aside()) == ([1], [])


async def test_a_database_outage_creates_no_dead_letters(consumer: Consumer, postgres_server: Any) -> None:
    await consumer.events.process([message(0)])
    postgres_server.kill()
    work = asyncio.create_task(consumer.events.process([message(1), Received(b"nonsense"), message(2)]))
    while "cannot be handled" not in (await consumer.events.check() or "") and not work.done():
        await asyncio.sleep(0.02)
        if consumer.calls == 1:  # the invalid event becomes a dead letter first, which waits too
            break
    assert not work.done()
    postgres_server.start()
    await asyncio.wait_for(work, 60)
    assert await consumer.taken() == [0, 1, 2]
    assert [payload for _, payload, _, _ in await consumer.aside()] == [b"nonsense"]


async def test_a_fault_that_is_not_the_events_sets_nothing_aside(consumer: Consumer) -> None:
    """A missing table makes every event fail, including events that were handled before."""
    await consumer.events.process([message(0)])
    async with consumer.database.transaction() as connection:
        await connection.execute("ALTER TABLE taken RENAME TO elsewhere")
    work = asyncio.create_task(consumer.events.process([message(1), message(2)]))
    while await consumer.events.check() is None:
        await asyncio.sleep(0.02)
    assert await consumer.aside() == []
    async with consumer.database.transaction() as connection:
        await connection.execute("ALTER TABLE elsewhere RENAME TO taken")
    await asyncio.wait_for(work, 60)
    assert (await consumer.taken(), await consumer.aside()) == ([0, 1, 2], [])
    assert await consumer.events.check() is None


async def test_the_same_message_again_stays_one_letter(consumer: Consumer) -> None:
    bad = Received(b"nonsense")
    for _ in range(2):
        await consumer.events.process([bad])
    assert len(await consumer.aside()) == 1


def test_operators_actions_on_dead_letters_are_audited(settings: ServiceSettings) -> None:
    consumer = Consumer(settings)
    consumer.refused.add(1)
    operations = dead_letters.operations("/v1/kit", consumer.letters)
    with psycopg.connect(settings.database(pooled=False), autocommit=True) as connection:
        connection.execute("CREATE TABLE seen (event jsonb)")
        connection.execute(
            "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN INSERT INTO seen VALUES (NEW.payload::jsonb); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER see AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION see()")
        with TestClient(service.create("Kit", operations, database=consumer.database)) as client:
            for number in (1, 2):
                content = json.dumps({"number": number}).encode()
                put = consumer.letters.put("usage.recorded.v1", b"acme", content, "refused", 1, 0, number)
                assert client.portal
                client.portal.call(lambda waiting=put: waiting)
            first, second = (one["number"] for one in client.get("/v1/kit/dead-letters").json()["dead_letters"])
            assert client.post(f"/v1/kit/dead-letters/{first}/retry").status_code == 409
            assert client.post(f"/v1/kit/dead-letters/{second}/retry").status_code == 200
            assert client.delete(f"/v1/kit/dead-letters/{first}").status_code == 204
        audited = [row[0] for row in connection.execute("SELECT event FROM seen")]
    for event in audited:
        jsonschema.validate(event, events.schema(dead_letters.HANDLED))
    shown = [(e["data"]["change"], e["data"]["number"], e["data"]["service"], e["data"]["key"]) for e in audited]
    assert shown == [
        ("retry-failed", first, "kit", "acme"),
        ("retried", second, "kit", "acme"),
        ("dropped", first, "kit", "acme"),
    ]
    assert {e["data"]["actor"] for e in audited} == {"key:default"}


def test_an_operator_looks_retries_and_drops(settings: ServiceSettings) -> None:
    consumer = Consumer(settings)
    app = service.create("Kit", dead_letters.operations("/v1/kit", consumer.letters), database=consumer.database)
    with TestClient(app) as client:

        async def fill() -> None:
            for number in range(3):
                payload = json.dumps({"number": number}).encode()
                await consumer.letters.put("usage.recorded.v1", b"acme", payload, "because", 4, 0, number)
            await consumer.letters.put("usage.recorded.v1", b"acme", b"\xff\0", "no text", 1, 0, 9)

        client.portal.call(fill)
        path = "/v1/kit/dead-letters"
        page = client.get(path, params={"limit": 3}).json()
        one, two, three = (letter["number"] for letter in page["dead_letters"])
        (last,) = client.get(path, params={"after": page["next"]}).json()["dead_letters"]
        shown = client.get(f"{path}/{one}").json()
        assert (shown["payload"], shown["key"], shown["reason"]) == ('{"number": 0}', "acme", "because")
        assert client.get(f"{path}/{last['number']}").json()["payload"] == "\\xff\\x00"
        assert client.post(f"{path}/{one}/retry").json() == {"processed": True}
        assert client.get(f"{path}/{one}").status_code == 404
        consumer.refused = {1}
        assert _refused(client.post(f"{path}/{two}/retry")) == (409, "still_failing")
        assert client.get(f"{path}/{two}").json()["tries"] == 5
        assert client.delete(f"{path}/{three}").status_code == 204
        assert client.post(f"{path}/{three}/retry").status_code == 404
        assert client.portal.call(consumer.taken) == [0]


def _refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def test_the_metric_counts_waiting_dead_letters(consumer: Consumer) -> None:
    await consumer.letters.put("t", b"", b"1", "why", 1)
    task = asyncio.create_task(consumer.letters.run())
    while dead_letters.WAITING.labels("t")._value.get() != 1:
        await asyncio.sleep(0.01)
    task.cancel()
