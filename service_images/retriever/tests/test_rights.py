"""Access rights to files and stores: only owners and managers change them, and only readers see them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import psycopg
import pytest
from retriever.__main__ import RetrieverSettings, create
from retriever.set_aside import TOPIC
from starlette.testclient import TestClient

from .conftest import Model, add, completed, found, make_store, upload
from .test_retriever import as_, grants, shared

__all__ = ["grants", "shared"]


def test_a_file_of_another_user_cannot_be_put_into_a_store_seen_or_deleted(shared: httpx.Client) -> None:
    ann, bob = as_("a-ann"), as_("a-bob")
    file = upload(shared, "The launch code is 4711-ALPHA.", "secret.txt", headers=ann)
    store = make_store(shared, headers=ann)
    add(shared, store, file, readers=["user:ann"], headers=ann)
    own = make_store(shared, headers=bob)
    tries = [
        shared.post(f"/v1/vector_stores/{own}/files", json={"file_id": file, "readers": ["*"]}, headers=bob),
        shared.post(f"/v1/vector_stores/{own}/file_batches", json={"file_ids": [file]}, headers=bob),
        shared.post("/v1/vector_stores", json={"file_ids": [file]}, headers=bob),
        shared.get(f"/v1/files/{file}", headers=bob),
        shared.get(f"/v1/files/{file}/content", headers=bob),
        shared.get(f"/v1/vector_stores/{store}/files/{file}", headers=bob),
        shared.get(f"/v1/vector_stores/{store}/files/{file}/content", headers=bob),
        shared.delete(f"/v1/files/{file}", headers=bob),
    ]
    assert [answer.status_code for answer in tries] == [404] * len(tries)
    changes = [
        shared.post(f"/v1/vector_stores/{store}/files", json={"file_id": file, "readers": ["*"]}, headers=bob),
        shared.post(f"/v1/vector_stores/{store}/files/{file}", json={"attributes": {}}, headers=bob),
        shared.post(f"/v1/vector_stores/{store}", json={"name": "mine"}, headers=bob),
        shared.delete(f"/v1/vector_stores/{store}/files/{file}", headers=bob),
        shared.delete(f"/v1/vector_stores/{store}", headers=bob),
    ]
    assert [answer.status_code for answer in changes] == [403] * len(changes)
    for path in ("/v1/files", f"/v1/vector_stores/{store}/files"):
        assert shared.get(path, headers=bob).json()["data"] == []
        assert [entry["id"] for entry in shared.get(path, headers=ann).json()["data"]] == [file]
    assert found(shared, store, "launch code", headers=bob) == []
    assert found(shared, store, "launch code", headers=ann) == ["secret.txt"]


def test_passages_have_at_most_the_readers_of_their_file(shared: httpx.Client) -> None:
    ann = as_("a-ann")
    form: Any = {"files": {"file": ("x.txt", b"x")}, "data": {"readers": "user:ann, team:red"}, "headers": ann}
    answer = shared.post("/v1/files", **form)
    assert answer.json()["readers"] == ["user:ann", "team:red"]
    file, store = answer.json()["id"], make_store(shared, headers=ann)
    wider = shared.post(f"/v1/vector_stores/{store}/files", json={"file_id": file, "readers": ["*"]}, headers=ann)
    assert (wider.status_code, wider.json()["error"]["param"]) == (400, "readers")
    assert add(shared, store, file, headers=ann)["readers"] == ["user:ann", "team:red"]
    assert shared.get(f"/v1/files/{file}", headers=as_("a-bob")).status_code == 200, "in team red"
    assert shared.get(f"/v1/files/{file}", headers=as_("a-eve")).status_code == 404
    assert shared.delete(f"/v1/files/{file}", headers=as_("a-bob")).status_code == 403


def test_a_manager_and_the_owner_may_change_files_and_stores(shared: httpx.Client) -> None:
    ann, admin = as_("a-ann"), as_("a-admin")
    file, store = upload(shared, "x", "x.txt", headers=ann), make_store(shared, headers=ann)
    add(shared, store, file, headers=admin)
    assert shared.get(f"/v1/files/{file}/content", headers=ann).content == b"x"
    assert shared.delete(f"/v1/vector_stores/{store}", headers=admin).status_code == 200
    assert shared.delete(f"/v1/files/{file}", headers=ann).status_code == 200


@pytest.mark.parametrize(
    ("quota", "status"), [("quota_files", 429), ("quota_bytes", 413), ("quota_stores", 429), ("quota_passages", 429)]
)
def test_a_reached_quota_is_a_clear_refusal_with_events_beforehand(
    settings: RetrieverSettings, model: Model, postgres_server: Any, quota: str, status: int
) -> None:
    with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as root:
        root.execute("CREATE TABLE kept (payload text)")
        root.execute(
            "CREATE FUNCTION keep() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS "
            "'BEGIN INSERT INTO public.kept VALUES (NEW.payload); RETURN NEW; END'"
        )
        root.execute("CREATE TRIGGER keep AFTER INSERT ON events.outbox FOR EACH ROW EXECUTE FUNCTION keep()")
    with TestClient(create(settings.model_copy(update={quota: 5}), model), raise_server_exceptions=False) as client:
        store = make_store(client)
        last: Any = None
        for number in range(6):
            if quota == "quota_stores":
                last = client.post("/v1/vector_stores", json={})
            else:
                last = client.post("/v1/files", files={"file": (f"{number}.txt", b"x")})
                if quota == "quota_passages" and last.status_code == 200:
                    body = {"file_id": last.json()["id"]}
                    last = client.post(f"/v1/vector_stores/{store}/files", json=body)
                    path = f"/v1/vector_stores/{store}/files/{body['file_id']}"
                    if last.status_code == 200:
                        completed(client, path)
            if last.status_code != 200:
                break
    assert (last.status_code, last.json()["error"]["code"]) == (status, "quota_exceeded"), last.text
    with psycopg.connect(postgres_server.url("retriever")) as root:
        kept = root.execute("SELECT payload::jsonb -> 'data' ->> 'percent' FROM kept WHERE payload LIKE '%quota.re%'")
        assert [row[0] for row in kept.fetchall()] == ["80", "95"]


def test_nothing_of_a_deleted_tenant_is_left(
    settings: RetrieverSettings, model: Model, postgres_server: Any, tmp_path: Any
) -> None:
    from kit.database import Database
    from kit.objects import objects
    from kit.tenant_deletion import Erasing
    from retriever.engines.pgvector import PgVector
    from retriever.erasing import Erasure

    async def erase(tenant: str) -> None:
        database = Database(settings)
        await database.open()
        try:
            erasure = Erasure(database, objects(settings, "documents"), PgVector(database, "documents"))
            event = {"data": {"tenant": tenant}}
            await Erasing(database, "retriever", erasure.erase).handle([event, event])
        finally:
            await database.close()

    with TestClient(create(settings, model)) as client:
        store = make_store(client)
        add(client, store, upload(client, "cats", "x.txt"))
        with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as root:
            # The dead letter of a failed file.
            root.execute(
                "INSERT INTO dead_letters (topic, partition, position, key, payload, digest, reason, tries) "
                "VALUES (%s, -1, -1, %s, '', '', '', 1)",
                (TOPIC, f"default/{store}/file".encode()),
            )
            asyncio.run(erase("other"))
            assert root.execute("SELECT count(*) FROM dead_letters").fetchone() == (1,)
        assert found(client, store, "cats") == ["x.txt"]
        asyncio.run(erase("default"))
        assert client.get("/v1/files").json()["data"] == client.get("/v1/vector_stores").json()["data"] == []
    assert list((tmp_path / "objects").iterdir()) == []
    with psycopg.connect(postgres_server.url("retriever")) as root:
        for table in ("files", "stores", "store_files", "batches", "turns", "vectors.documents", "dead_letters"):
            assert root.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
