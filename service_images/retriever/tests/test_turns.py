"""Ingestion: no file blocks another one, and tenants take turns."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from retriever.__main__ import RetrieverSettings, create
from retriever.ingest import AT_ONCE, ATTEMPTS, LEASE_S, WAITS, Ingest
from starlette.testclient import TestClient

from . import documents
from .conftest import Model, add, completed, found, make_store, upload


def test_unreadable_files_fail_with_a_reason_and_do_not_block_others(retriever: httpx.Client) -> None:
    store = make_store(retriever)
    bad = {
        "bomb.pdf": (documents.pdf_bomb(), "after decompression"),
        "bomb.docx": (documents.office_bomb("docx"), "after unpacking"),
        "deep.html": (b"<div>" * 100_000, "Processing takes longer than"),
        "bad.json": (b'{"a":', "cannot be read"),
    }
    waiting = {}
    for name, (content, _) in bad.items():
        waiting[name] = upload(retriever, content, name)
        retriever.post(f"/v1/vector_stores/{store}/files", json={"file_id": waiting[name]})
    add(retriever, store, upload(retriever, "Cats hunt mice.", "good.txt"))
    add(retriever, store, upload(retriever, b'{"a":"hi \\ud83d there, dogs bark"}', "half.json"))
    for name, file in waiting.items():
        shown = settled(retriever, store, file)
        assert shown["status"] == "failed" and bad[name][1] in shown["last_error"]["message"], shown
    assert found(retriever, store, "cats")[0] == "good.txt"
    assert found(retriever, store, "barking dogs")[0] == "half.json"


def settled(client: httpx.Client, store: str, file: str) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while (shown := client.get(f"/v1/vector_stores/{store}/files/{file}").json())["status"] == "in_progress":
        assert time.monotonic() < deadline, shown
        time.sleep(0.05)
    return shown


def test_words_are_found_in_any_form_of_unicode(retriever: httpx.Client) -> None:
    store = make_store(retriever)
    add(retriever, store, upload(retriever, "The cafe\u0301 serves \ufb01sh.", "menu.txt"))
    for query in ("café", "cafe\u0301", "fish", "\ufb01sh"):
        assert found(retriever, store, query, ranking_options={"ranker": "words"}) == ["menu.txt"]


def test_a_file_that_crashes_the_process_is_not_retried_forever(
    settings: RetrieverSettings, model: Model, postgres_server: Any
) -> None:
    model.fails = True
    with TestClient(create(settings, model)) as client:
        store, file = make_store(client), upload(client, "x", "x.txt")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
        # The state after a process was killed in its last attempt: the attempt is counted, and the lease has expired.
        connection.execute("UPDATE store_files SET attempts = %s, lease = 'x', free_at = now()", (ATTEMPTS,))
    model.fails = False
    with TestClient(create(settings, model)) as client:
        shown = settled(client, store, file)
    assert shown["last_error"] == {"code": "server_error", "message": f"processing was interrupted {ATTEMPTS} times"}


def test_a_file_that_is_leased_while_the_replica_stops_is_given_back(
    settings: RetrieverSettings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, leased = Ingest._take, threading.Event()

    async def take_slowly(self: Ingest) -> dict[str, Any] | None:
        if (row := await take(self)) is not None:
            leased.set()
            await asyncio.sleep(1)  # the replica stops between the commit and its answer
        return row

    monkeypatch.setattr(Ingest, "_take", take_slowly)
    with TestClient(create(settings, model)) as client:
        store, file = make_store(client), upload(client, "Cats hunt mice.", "x.txt")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        assert leased.wait(30)
    monkeypatch.undo()
    begun = time.monotonic()
    with TestClient(create(settings, model)) as client:
        assert settled(client, store, file)["status"] == "completed"
    assert time.monotonic() - begun < LEASE_S


@pytest.fixture
def given_up(settings: RetrieverSettings, model: Model, postgres_server: Any) -> Iterator[tuple[httpx.Client, str]]:
    """(client, path of a file whose ingestion has failed)."""
    model.fails = True
    with TestClient(create(settings, model), raise_server_exceptions=False) as client:
        store, file = make_store(client), upload(client, "Cats hunt mice.", "x.txt")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
            connection.execute("UPDATE store_files SET waits = %s, lease = '', free_at = now()", (WAITS,))
        settled(client, store, file)
        model.fails = False
        yield client, f"/v1/vector_stores/{store}/files/{file}"


def letters(client: httpx.Client) -> list[dict[str, Any]]:
    return client.get("/v1/retriever/dead-letters").raise_for_status().json()["dead_letters"]


def test_an_operator_sees_a_file_that_was_given_up_and_has_it_read_again(given_up: tuple[httpx.Client, str]) -> None:
    client, path = given_up
    (letter,) = letters(client)
    store, file = path.split("/")[3::2]
    assert letter["topic"] == "store_files" and letter["key"] == f"default/{store}/{file}"
    assert letter["tries"] > WAITS and letter["reason"] == client.get(path).json()["last_error"]["message"]
    one = f"/v1/retriever/dead-letters/{letter['number']}"
    shown = json.loads(client.get(one).json()["payload"])
    assert shown == {"tenant": "default", "store": store, "file": file, "name": "x.txt"}
    assert client.post(f"{one}/retry").json() == {"processed": True}
    completed(client, path)
    assert letters(client) == [] and found(client, store, "cats") == ["x.txt"]


def test_a_file_whose_dead_letter_is_dropped_stays_failed(given_up: tuple[httpx.Client, str]) -> None:
    client, path = given_up
    (letter,) = letters(client)
    assert client.delete(f"/v1/retriever/dead-letters/{letter['number']}").status_code == 204
    assert letters(client) == [] and client.get(path).json()["status"] == "failed"


@pytest.mark.parametrize("how", ["added again", "changed", "removed", "deleted", "store"])
def test_a_dead_letter_is_deleted_with_its_file(given_up: tuple[httpx.Client, str], how: str) -> None:
    client, path = given_up
    stores, file = path.rsplit("/", 1)
    match how:
        case "added again":
            answer = client.post(stores, json={"file_id": file})
        case "changed":
            answer = client.post(path, json={"attributes": {"a": "b"}})
        case "removed":
            answer = client.delete(path)
        case "deleted":
            answer = client.delete(f"/v1/files/{file}")
        case _:
            answer = client.delete(stores.removesuffix("/files"))
    assert answer.status_code == 200, answer.text
    assert letters(client) == []


def test_a_file_that_is_itself_at_fault_is_no_dead_letter(retriever: httpx.Client) -> None:
    store, file = make_store(retriever), upload(retriever, b'{"a":', "bad.json")
    assert add(retriever, store, file, "failed")["last_error"]["code"] == "invalid_file"
    assert letters(retriever) == []


def test_an_attempt_is_counted_before_it_is_made(
    settings: RetrieverSettings, postgres_server: Any, model: Model
) -> None:
    seen: list[int] = []

    class Looking(Model):
        async def embed(self, texts: Any) -> list[Any]:
            with psycopg.connect(postgres_server.url("retriever")) as connection:
                seen.extend(row[0] for row in connection.execute("SELECT attempts FROM store_files").fetchall())
            return await model.embed(texts)

    with TestClient(create(settings, Looking(model._engine))) as client:
        add(client, make_store(client), upload(client, "x", "x.txt"))
    assert seen == [1]


def test_tenants_take_turns(settings: RetrieverSettings, postgres_server: Any, model: Model) -> None:
    """Ten files of one tenant wait before a file of another tenant, which is processed second.

    Files of the first tenant occupy their places until the other's is there: it needs one of the places.
    """
    order: list[str] = []

    class Noting(Model):
        async def embed(self, texts: Any) -> list[Any]:
            order.extend(texts)
            async with asyncio.timeout(60):
                while "small" not in order:
                    await asyncio.sleep(0.01)
            return await model.embed(texts)

    model.fails = True
    with TestClient(create(settings, model)) as client:
        store = make_store(client)
        for number in range(11):
            tenant = "small" if number == 10 else "large"
            file = upload(client, tenant, f"{number}.txt")
            client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
        connection.execute("UPDATE files SET tenant = 'small' WHERE name = '10.txt'")
        connection.execute("UPDATE store_files f SET tenant = d.tenant FROM files d WHERE d.id = f.file")
        connection.execute("INSERT INTO turns (tenant) VALUES ('small')")
        connection.execute("UPDATE store_files SET attempts = 0, waits = 0, lease = '', free_at = 'epoch'")
    model.fails = False
    objects = settings.objects_endpoint.removeprefix("file://")
    from pathlib import Path

    for path in Path(objects).iterdir():
        if path.read_bytes() == b"small":
            path.rename(path.with_name(path.name.replace("default", "small")))
    with TestClient(create(settings, Noting(model._engine))):
        deadline = time.monotonic() + 60
        while len(order) < 11:
            assert time.monotonic() < deadline, order
            time.sleep(0.05)
    assert order.index("small") < AT_ONCE, order


@pytest.mark.parametrize("how", ["removed", "deleted", "store"])
def test_a_file_removed_during_ingestion_leaves_no_passages(
    settings: RetrieverSettings, postgres_server: Any, model: Model, how: str
) -> None:
    class Removing(Model):
        client: Any = None
        path = ""

        async def embed(self, texts: Any) -> list[Any]:
            import asyncio

            if self.path:
                path, self.path = self.path, ""
                assert (await asyncio.to_thread(self.client.delete, path)).status_code == 200
            return await model.embed(texts)

    removing = Removing(model._engine)
    with TestClient(create(settings, removing)) as client:
        store, file = make_store(client), upload(client, "cats", "x.txt")
        removing.client = client
        paths = {"removed": f"/v1/vector_stores/{store}/files/{file}", "deleted": f"/v1/files/{file}"}
        removing.path = paths.get(how, f"/v1/vector_stores/{store}")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        deadline = time.monotonic() + 60
        while removing.path:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        add(client, make_store(client), upload(client, "dogs", "y.txt"))  # later files are processed
    with psycopg.connect(postgres_server.url("retriever")) as connection:
        rows = connection.execute("SELECT content FROM vectors.documents").fetchall()
    assert rows == [("dogs",)]
