"""Ingestion: no file stops another one, and tenants take turns."""

from __future__ import annotations

import time
from typing import Any

import httpx
import psycopg
import pytest
from retriever.__main__ import RetrieverSettings, create
from retriever.ingest import ATTEMPTS
from starlette.testclient import TestClient

from . import documents
from .conftest import Model, add, found, make_store, upload


def test_files_that_cannot_be_read_fail_with_a_reason_and_the_others_go_on(retriever: httpx.Client) -> None:
    store = make_store(retriever)
    bad = {
        "bomb.pdf": (documents.pdf_bomb(), "decompressed"),
        "bomb.docx": (documents.office_bomb("docx"), "unpacked"),
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


def test_a_file_whose_attempts_end_the_process_is_not_tried_for_ever(
    settings: RetrieverSettings, model: Model, postgres_server: Any
) -> None:
    model.fails = True
    with TestClient(create(settings, model)) as client:
        store, file = make_store(client), upload(client, "x", "x.txt")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
        # As a process leaves it that is killed in its last attempt: counted, and the lease runs out.
        connection.execute("UPDATE store_files SET attempts = %s, lease = 'x', free_at = now()", (ATTEMPTS,))
    model.fails = False
    with TestClient(create(settings, model)) as client:
        shown = settled(client, store, file)
    assert shown["last_error"] == {"code": "server_error", "message": f"processing was cut off {ATTEMPTS} times"}


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
    """Ten files of one tenant wait before one of another, which is read second all the same."""
    order: list[str] = []

    class Noting(Model):
        async def embed(self, texts: Any) -> list[Any]:
            order.extend(texts)
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
    assert "small" in order[:5], order


@pytest.mark.parametrize("how", ["removed", "deleted", "store"])
def test_what_is_taken_away_while_it_is_read_leaves_no_passages(
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
        add(client, make_store(client), upload(client, "dogs", "y.txt"))  # what comes after it is read
    with psycopg.connect(postgres_server.url("retriever")) as connection:
        rows = connection.execute("SELECT content FROM vectors.documents").fetchall()
    assert rows == [("dogs",)]
