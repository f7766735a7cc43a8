"""No JSON that one tenant sends to any operation of any service affects the work of the next tenant."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SOURCES = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SOURCES / "kit" / "tests"), *(str(SOURCES / name / "src") for name in ("kit", "audit", "billing"))]

from audit.__main__ import AuditSettings  # noqa: E402
from audit.__main__ import Log as AuditLog  # noqa: E402
from billing.__main__ import BillingSettings  # noqa: E402
from billing.__main__ import consumer as billing_consumer  # noqa: E402
from kafka_messages import Received  # noqa: E402
from kit.database import Database  # noqa: E402

from service_images.tests.test_openapi import SCHEMAS, clients  # noqa: E402

pytestmark = pytest.mark.contract
__all__ = ["clients"]
WRITERS = ("user", "prompt", "retriever", "billing", "guardrails", "audit")
KEPT = """
CREATE TABLE IF NOT EXISTS public.kept (number bigint GENERATED ALWAYS AS IDENTITY, key text, payload text);
CREATE OR REPLACE FUNCTION public.keep() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.kept (key, payload) VALUES (NEW.aggregateid, NEW.payload); RETURN NEW; END';
CREATE OR REPLACE TRIGGER keep AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION public.keep();
"""
"""Record events, since rows of the outbox are deleted at once."""
MARK = "@put the fragment here@"
FRAGMENTS = st.one_of(
    st.sampled_from(
        (
            '"\\u0000"', '"a\\u0000b"', '"\\ud83d there"', '"\\udc00"', '{"\\u0000":1}', '{"a":1,"a":2}', "NaN",
            "-Infinity", "1e999", "-1e400", "1e308", "-0.0", "9" * 400, "-" + "9" * 19, "0." + "1" * 500, "null",
            "[]", "{}", '""', "[[1,2],[\"a\"]]",
            '{"enum":[[1,2],["a"]]}', '{"packs":[],"rules":[]}', '"\\ufffe\\u202e\\u2028\\u0085"',
            '"' + "x" * 70_000 + '"', '"' + "\\u0001" * 12_000 + '"', '"' + "\N{GRINNING FACE}" * 20_000 + '"',
            "[" * 63 + "]" * 63, "[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, "[" + "0," * 20_000 + "0]",
            "{" + ",".join(f'"k{n}":{n}' for n in range(5000)) + "}",
        )
    ),
    st.text(max_size=20).map(json.dumps),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=8,
    ).map(json.dumps),
)  # fmt: skip


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All paths of a JSON value, and one additional key per object."""
    yield path
    if isinstance(value, dict):
        yield (*path, "more")
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from spots(part, (*path, name))


def spoiled(value: Any, draw: Callable[[Any], Any]) -> str:
    """A JSON text with a fragment at one path; sometimes the unchanged value."""
    value = json.loads(json.dumps(value))
    path = draw(st.sampled_from(list(spots(value))))
    fragment = draw(FRAGMENTS)
    if not path:
        return draw(st.sampled_from((json.dumps(value), fragment)))
    inner = value
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = MARK
    return json.dumps(value).replace(json.dumps(MARK), fragment)


async def _consumed(reader: str, server: Any, contents: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, str]]:
    """Pass (key, event) to a reader as Kafka does. Returns its dead letters."""
    there = {"postgres_host": "127.0.0.1", "postgres_port": server.port, "postgres_pool_port": server.port}
    there |= {"kafka_bootstrap": "127.0.0.1:1"}
    if reader == "audit":
        secrets = {"signing_secret": "of this test", "sealing_secret": "of this test"}
        made: Any = AuditSettings(**there, **secrets)
        database = Database(made)
        events, _ = AuditLog.of(made, database).consumer(made)
    else:
        made = BillingSettings(**there)
        database = Database(made)
        events, _ = billing_consumer(made, database)
    await database.open()
    try:
        await events.process([Received(content, key) for key, content in contents])
        async with database.transaction() as connection:
            cursor = await connection.execute("DELETE FROM dead_letters RETURNING payload, reason")
            return await cursor.fetchall()
    finally:
        await database.close()


def consumed(reader: str, server: Any, contents: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, str]]:
    """Run a coroutine outside of the test client's loop."""
    return asyncio.run(_consumed(reader, server, contents))


def usage(tenant: str, name: str) -> dict[str, Any]:
    """A usage event of the Router."""
    data = {"tenant": tenant, "model": "m", "operation": "chat", "input_tokens": 3, "output_tokens": 4, "user": "u"}
    return {
        "specversion": "1.0", "id": name, "source": "/services/router", "type": "dev.cogniforge.usage.recorded.v1",
        "time": "2026-10-05T10:00:00Z", "subject": "request/1", "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


@pytest.fixture
def others_work(clients: Callable[[str], httpx.Client], postgres_server: Any, unique: str) -> Callable[[], None]:
    """Assert that Billing, Audit and ingestion process the next tenant's work."""

    def assert_it() -> None:
        event = json.dumps(usage(f"next-{unique}", unique)).encode()
        span = {"begin": "2026-10-01T00:00:00Z", "end": "2026-11-01T00:00:00Z"}
        query = {"aggregation": "SUM", "field": "input_tokens", "tenant": f"next-{unique}", **span}
        for name in ("billing", "audit"):
            clients(name)
        for reader, path in (("billing", "/v1/billing/meters"), ("audit", "/v1/audit/events")):
            client = clients(reader)
            assert consumed(reader, postgres_server, [(b"next", event)]) == []
            asked = query if reader == "billing" else {"tenant": f"next-{unique}"}
            found = client.get(path, params=asked).json()
            assert (found["values"][0]["value"] == 3) if reader == "billing" else len(found["entries"]) == 1
        retriever = clients("retriever")
        file = retriever.post("/v1/files", files={"file": ("a.txt", "Cats sleep.")}, data={"purpose": "assistants"})
        store = retriever.post("/v1/vector_stores", json={"name": "next"}).json()["id"]
        added = retriever.post(f"/v1/vector_stores/{store}/files", json={"file_id": file.json()["id"]})
        assert added.status_code == httpx.codes.OK
        while (shown := retriever.get(f"/v1/vector_stores/{store}/files/{file.json()['id']}").json())["status"] in (
            "in_progress",
        ):
            pass
        assert shown["status"] == "completed", shown

    return assert_it


def _operations(service: str) -> list[Any]:
    found = [result.ok() for result in SCHEMAS[service].get_all_operations()]
    return [one for one in found if "application/json" in one.definition.raw.get("requestBody", {}).get("content", {})]


@pytest.mark.parametrize("service", WRITERS)
def test_no_body_stops_the_work_of_others(
    service: str,
    clients: Callable[[str], httpx.Client],
    postgres_server: Any,
    others_work: Callable[[], None],
) -> None:
    clients("audit")
    client = clients(service)
    events = service in ("user", "prompt", "retriever", "billing")
    if events:
        with psycopg.connect(postgres_server.url(service), autocommit=True) as root:
            root.execute(KEPT)
    operations = _operations(service)

    most = min(2 * len(operations), 40)

    @settings(max_examples=most, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def send(data: st.DataObject) -> None:
        operation = data.draw(st.sampled_from(operations))
        case = data.draw(operation.as_strategy())
        arguments = case.as_transport_kwargs(base_url="http://testserver")
        text = spoiled(case.body, data.draw)
        headers = {"content-type": "application/json"}
        try:
            answer = client.request(arguments["method"], arguments["url"], content=text.encode(), headers=headers)
        except httpx.InvalidURL:
            return
        assert answer.status_code < 500, (operation.label, text[:300], answer.text)

    send()
    if events:
        with psycopg.connect(postgres_server.url(service), autocommit=True) as root:
            rows = root.execute("DELETE FROM public.kept RETURNING key, payload").fetchall()
        assert consumed("audit", postgres_server, [(key.encode(), payload.encode()) for key, payload in rows]) == []
    others_work()


@pytest.mark.parametrize("reader", ["billing", "audit"])
def test_no_event_stops_the_events_around_it(
    reader: str, clients: Callable[[str], httpx.Client], postgres_server: Any, others_work: Callable[[], None]
) -> None:
    for name in ("audit", "billing"):
        clients(name)

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def send(data: st.DataObject) -> None:
        bad = [spoiled(usage("acme", "x"), data.draw).encode() for _ in range(2)]
        around = [json.dumps(usage("acme", name)).encode() for name in ("before", "after")]
        letters = consumed(reader, postgres_server, [(b"acme", text) for text in (around[0], *bad, around[1])])
        assert {payload for payload, _ in letters} <= set(bad)
        assert all(reason for _, reason in letters)

    send()
    others_work()
