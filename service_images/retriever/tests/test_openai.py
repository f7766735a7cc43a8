"""Files and vector stores with OpenAI's client and its types."""

from __future__ import annotations

import io
from typing import Any

import httpx
import openai
import psycopg
import pytest
from openai import OpenAI
from retriever.__main__ import RetrieverSettings, create
from starlette.testclient import TestClient

from .conftest import Model, add, make_store, upload


@pytest.fixture
def client(retriever: httpx.Client) -> OpenAI:
    return OpenAI(api_key="x", base_url="http://testserver/v1", http_client=retriever, max_retries=0)


def test_an_upload_under_one_key_is_known_by_its_content(retriever: httpx.Client) -> None:
    def send(content: bytes, name: str = "a.txt", **data: str) -> httpx.Response:
        headers = {"idempotency-key": "k1"}
        return retriever.post("/v1/files", files={"file": (name, content)}, data=data, headers=headers)

    first = send(b"one")
    again = send(b"one")  # with another boundary
    assert first.status_code == again.status_code == 200 and first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    for other in (send(b"two"), send(b"one", "b.txt"), send(b"one", purpose="user_data"), send(b"ONE")):
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(retriever.get("/v1/files").json()["data"]) == 1


def test_a_store_is_made_with_files_expiry_and_metadata_and_changed(client: OpenAI) -> None:
    files = [client.files.create(file=(f"{n}.txt", f"text {n}".encode()), purpose="assistants").id for n in range(2)]
    store = client.vector_stores.create(
        name="s", file_ids=files, expires_after={"anchor": "last_active_at", "days": 3}, metadata={"k": "v"}
    )
    assert store.file_counts.total == 2 and store.expires_after and store.expires_after.days == 3
    assert store.expires_at and store.expires_at - (store.last_active_at or 0) == 3 * 86_400
    changed = client.vector_stores.update(store.id, name="t", metadata={"k": "w"})
    assert (changed.name, changed.metadata, changed.expires_after is None) == ("t", {"k": "w"}, False)
    assert client.vector_stores.update(store.id, expires_after=None).expires_after is None
    for file in files:
        client.vector_stores.files.poll(file, vector_store_id=store.id)
    found = client.vector_stores.retrieve(store.id)
    assert (found.status, found.file_counts.completed) == ("completed", 2) and found.usage_bytes > 0


def test_batches_are_read_counted_and_listed(client: OpenAI) -> None:
    store = client.vector_stores.create()
    files = [client.files.create(file=(f"{n}.txt", f"text {n}".encode()), purpose="assistants").id for n in range(3)]
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=files[:2], attributes={"a": 1})
    assert (batch.status, batch.file_counts.completed, batch.object) == ("completed", 2, "vector_store.files_batch")
    listed = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="completed")
    assert {entry.id for entry in listed} == set(files[:2])
    own = client.vector_stores.file_batches.create(store.id, files=[{"file_id": files[2], "attributes": {"b": True}}])
    cancelled = client.vector_stores.file_batches.cancel(own.id, vector_store_id=store.id)
    assert cancelled.status in ("cancelled", "completed")
    both: Any = {"file_ids": files, "files": [{"file_id": files[0]}]}
    with pytest.raises(openai.BadRequestError, match="either file_ids or files"):
        client.vector_stores.file_batches.create(store.id, **both)


def test_lists_are_paged_in_both_orders(client: OpenAI) -> None:
    files = [
        client.files.create(file=(f"{n}.txt", b"x"), purpose="user_data" if n % 2 else "assistants").id
        for n in range(5)
    ]
    assert [entry.id for entry in client.files.list()] == files[::-1]
    assert [entry.id for entry in client.files.list(order="asc", limit=2)] == files, "page by page"
    assert [entry.id for entry in client.files.list(purpose="user_data", order="asc")] == files[1::2]
    stores = [client.vector_stores.create(name=str(n)).id for n in range(4)]
    after = client.vector_stores.list(order="asc", after=stores[0], limit=2).data
    before = client.vector_stores.list(order="asc", before=stores[3], limit=2).data
    assert ([one.id for one in after], [one.id for one in before]) == (stores[1:3], stores[1:3])
    with pytest.raises(openai.BadRequestError, match="not in this list"):
        client.vector_stores.list(after="vs_unknown")


def test_files_in_stores_are_filtered_changed_and_shown_as_text(client: OpenAI, retriever: httpx.Client) -> None:
    store = client.vector_stores.create().id
    good, bad = upload(retriever, b'{"a":"b"}', "a.jsonl"), upload(retriever, b"{", "b.json")
    add(retriever, store, good, attributes={"k": "old"})
    add(retriever, store, bad, wait="failed")
    assert [one.id for one in client.vector_stores.files.list(store, filter="failed")] == [bad]
    failed = client.vector_stores.files.retrieve(bad, vector_store_id=store)
    assert failed.last_error and failed.last_error.code == "invalid_file"
    changed = client.vector_stores.files.update(good, vector_store_id=store, attributes={"k": "new"})
    assert changed.attributes == {"k": "new"}
    client.vector_stores.files.poll(good, vector_store_id=store)
    found = client.vector_stores.search(store, query="b", filters={"type": "eq", "key": "k", "value": "new"})
    assert [hit.file_id for hit in found] == [good]
    (content,) = client.vector_stores.files.content(good, vector_store_id=store)
    assert content.text == '{\n"a":"b"}'


def test_missing_objects_are_404_in_openais_format(client: OpenAI) -> None:
    for call in (
        lambda: client.vector_stores.retrieve("vs_" + "0" * 32),
        lambda: client.vector_stores.search("vs_unknown", query="x"),
        lambda: client.vector_stores.files.list("vs_abc"),
        lambda: client.files.retrieve("file-abc"),
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert caught.value.type == "not_found_error" and "does not exist" in str(caught.value)


def test_scores_mean_the_same_for_every_query(client: OpenAI, retriever: httpx.Client) -> None:
    store = client.vector_stores.create().id
    add(retriever, store, upload(retriever, "Cats sleep most of the day and hunt mice at night.", "cats.txt"))
    add(retriever, store, upload(retriever, "The central bank raised interest rates in June.", "rates.txt"))
    for ranker in ("auto", "none", "default-2024-11-15", "hybrid", "dense", "words"):
        asked: Any = {"ranking_options": {"ranker": ranker}}
        unrelated = client.vector_stores.search(store, query="The volcano of the day", **asked).data
        assert all(hit.score < 0.4 for hit in unrelated), ranker
        related = client.vector_stores.search(store, query="What do cats hunt at night?", **asked).data
        assert related[0].filename == "cats.txt" and related[0].score > 0.6, ranker
        asked["ranking_options"]["score_threshold"] = 0.9
        assert client.vector_stores.search(store, query="The volcano of the day", **asked).data == []
    several = client.vector_stores.search(store, query=["cats hunt mice", "interest rates"]).data
    assert {hit.filename for hit in several} == {"cats.txt", "rates.txt"}
    assert all(hit.score > 0.5 for hit in several)


def test_an_expired_store_is_emptied_and_has_the_status_expired(
    settings: RetrieverSettings, model: Model, postgres_server: Any
) -> None:
    with TestClient(create(settings, model), raise_server_exceptions=False) as client:
        store = client.post(
            "/v1/vector_stores", json={"expires_after": {"anchor": "last_active_at", "days": 1}}
        ).json()["id"]
        add(client, store, upload(client, "cats", "x.txt"))
        with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
            connection.execute("UPDATE stores SET active = now() - interval '2 days'")
        assert client.get(f"/v1/vector_stores/{store}").json()["status"] == "expired"
        answer = client.post(f"/v1/vector_stores/{store}/search", json={"query": "cats"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "vector_store_expired")
    with TestClient(create(settings, model)) as client:  # the service starts the expiry task
        import time

        deadline = time.monotonic() + 30
        while client.get(f"/v1/vector_stores/{store}").json()["file_counts"]["total"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with psycopg.connect(postgres_server.url("retriever")) as connection:
        assert connection.execute("SELECT count(*) FROM vectors.documents").fetchone() == (0,)


def test_word_files_are_found(client: OpenAI, retriever: httpx.Client) -> None:
    from . import documents

    store = make_store(retriever)
    add(retriever, store, upload(retriever, documents.word("Whales are the largest mammals."), "whales.docx"))
    assert client.vector_stores.search(store, query="biggest animals").data[0].filename == "whales.docx"


@pytest.mark.parametrize("field", ["nonsense", "expires_after[days]"])
def test_a_field_of_a_form_that_is_not_known_is_refused(retriever: httpx.Client, field: str) -> None:
    answer = retriever.post("/v1/files", files={"file": ("a.txt", io.BytesIO(b"x"))}, data={field: "x"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)
