"""Retriever's REST operations, with the real model and a real database."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kit import migrate
from kit.directory import Grant
from openai import OpenAI
from retriever import chunking
from retriever.__main__ import RetrieverSettings, create
from retriever.api import document
from starlette.testclient import TestClient

from . import documents
from .conftest import Model, add, found, make_store, upload

TEXTS = {
    "cats.txt": "Cats sleep most of the day and hunt mice at night.",
    "rates.md": "The central bank raised interest rates by half a percent in June.",
    "bread.txt": "Knead the dough for ten minutes, then let it rise in a warm place.",
    "codes.txt": "Error E4711 means that the pump has lost its pressure.",
}


@pytest.fixture
def filled(retriever: httpx.Client) -> tuple[httpx.Client, str]:
    store = make_store(retriever)
    for name, text in TEXTS.items():
        add(retriever, store, upload(retriever, text, name), attributes={"kind": name.split(".")[0], "size": len(text)})
    return retriever, store


def test_meaning_is_found_without_the_words(filled: tuple[httpx.Client, str]) -> None:
    client, store = filled
    assert found(client, store, "How do I bake a loaf?")[0] == "bread.txt"
    assert found(client, store, "monetary policy")[0] == "rates.md"


def test_words_are_found_that_mean_nothing(filled: tuple[httpx.Client, str]) -> None:
    client, store = filled
    assert found(client, store, "E4711")[0] == "codes.txt"
    assert found(client, store, "E4711", ranking_options={"ranker": "words"}) == ["codes.txt"]


BURIED = {
    "rules.txt": (
        "The company was founded by two brothers in a small town near the sea. In the year of the flood most of the "
        "papers were lost. Passwords have to be changed every ninety days. The weather in the mountains was better "
        "than expected this year. New windows were put in, and the roof was painted red."
    ),
    "story.txt": (
        "How often did she think of her secret? She renewed her promise every night and told nobody of it. "
        "The letters lay in a drawer. Nobody must ever read them, and nobody ever did."
    ),
}


def test_passages_that_are_read_once_more_are_in_the_order_in_which_they_answer(retriever: httpx.Client) -> None:
    store, asked = make_store(retriever), "How often must I renew my login secret?"
    for name, text in BURIED.items():
        add(retriever, store, upload(retriever, text, name))
    assert found(retriever, store, asked, ranking_options={"ranker": "dense"}) == ["story.txt", "rules.txt"]
    again = {"ranker": "dense", "rerank": True}
    assert found(retriever, store, asked, ranking_options=again) == ["rules.txt", "story.txt"]


def test_passages_that_answer_too_little_are_left_out(retriever: httpx.Client) -> None:
    store = make_store(retriever)
    for name, text in BURIED.items():
        add(retriever, store, upload(retriever, text, name))
    ranking = {"rerank": True, "score_threshold": 0.99}
    assert found(retriever, store, "How often must I renew my login secret?", ranking_options=ranking) == []


def test_filters_hold_within_the_search(filled: tuple[httpx.Client, str]) -> None:
    client, store = filled
    only = {"type": "in", "key": "kind", "value": ["cats", "codes"]}
    assert set(found(client, store, "How do I bake a loaf?", filters=only)) == {"cats.txt", "codes.txt"}
    both = {"type": "and", "filters": [only, {"type": "gt", "key": "size", "value": 52}]}
    assert found(client, store, "anything", filters=both) == ["codes.txt"]


def test_deleted_files_are_not_found(filled: tuple[httpx.Client, str]) -> None:
    client, store = filled
    files = {entry["filename"]: entry["id"] for entry in client.get("/v1/files").json()["data"]}
    assert client.delete(f"/v1/vector_stores/{store}/files/{files['cats.txt']}").status_code == 200
    assert "cats.txt" not in found(client, store, "cats hunt mice")
    assert client.delete(f"/v1/files/{files['rates.md']}").status_code == 200
    assert "rates.md" not in found(client, store, "interest rates")
    client.delete(f"/v1/vector_stores/{store}")
    assert client.post(f"/v1/vector_stores/{store}/search", json={"query": "x"}).status_code == 404


def test_openais_client_works(retriever: httpx.Client) -> None:
    client = OpenAI(api_key="x", base_url="http://testserver/v1", http_client=retriever)
    store = client.vector_stores.create(name="mine")
    file = client.files.create(file=("cats.txt", io.BytesIO(TEXTS["cats.txt"].encode())), purpose="assistants")
    assert client.vector_stores.files.create_and_poll(file.id, vector_store_id=store.id).status == "completed"
    page = client.vector_stores.search(store.id, query="what do cats do at night?")
    assert page.data[0].filename == "cats.txt" and "mice" in page.data[0].content[0].text
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1
    assert client.files.content(file.id).read() == TEXTS["cats.txt"].encode()


def test_a_pdf_is_read(retriever: httpx.Client) -> None:
    content = documents.pdf_text("Whales are the largest mammals.")
    store = make_store(retriever)
    add(retriever, store, upload(retriever, content, "whales.pdf"))
    assert found(retriever, store, "biggest animals") == ["whales.pdf"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("bad.pdf", b"%PDF-nothing", "cannot be read"),
        ("bad.txt", b"\xff\xfe\xfa", "UTF-8"),
        ("empty.txt", b"  \n ", "no text"),
        ("bad.json", b"{", "cannot be read"),
        ("deep.json", b"[" * 100_000, "too deep"),
    ],
)
def test_an_unreadable_file_gets_the_status_failed(
    retriever: httpx.Client, name: str, content: bytes, reason: str
) -> None:
    shown = add(retriever, make_store(retriever), upload(retriever, content, name), wait="failed")
    assert reason in shown["last_error"]["message"]


@pytest.mark.parametrize("value", ["1e999", '"\\u0000"'])
def test_attributes_that_the_database_cannot_keep_are_refused(retriever: httpx.Client, value: str) -> None:
    store, file = make_store(retriever), upload(retriever, "x")
    body = f'{{"file_id": "{file}", "attributes": {{"a": {value}}}}}'
    assert retriever.post(f"/v1/vector_stores/{store}/files", content=body).status_code == 400


def test_a_kind_that_is_not_read_is_refused_at_once(retriever: httpx.Client) -> None:
    assert retriever.post("/v1/files", files={"file": ("a.exe", b"MZ")}).status_code == 400


def test_other_readers_are_in_force_when_the_request_is_answered(filled: tuple[httpx.Client, str]) -> None:
    client, store = filled
    file = next(entry["id"] for entry in client.get("/v1/files").json()["data"] if entry["filename"] == "cats.txt")
    client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file, "readers": ["user:ann"]})
    with_readers = client.get(f"/v1/vector_stores/{store}/files/{file}").json()
    assert with_readers["readers"] == ["user:ann"]


def test_files_wait_while_embeddings_is_unavailable(settings: RetrieverSettings, model: Model) -> None:
    model.fails = True
    with TestClient(create(settings, model)) as client:
        store, file = make_store(client), upload(client, TEXTS["cats.txt"], "cats.txt")
        client.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    model.fails = False
    with TestClient(create(settings, model)) as client:  # another process continues
        deadline = time.monotonic() + 20
        while client.get(f"/v1/vector_stores/{store}").json()["file_counts"]["completed"] != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found(client, store, "cats") == ["cats.txt"]


def test_vectors_come_from_the_service_by_grpc(settings: RetrieverSettings, model: Model) -> None:
    """The channel is created with the application, but used in another event loop."""
    from embeddings.calls import Calls
    from kit import rpc
    from kit.settings import ServiceSettings

    class Vectors:
        async def of(self, texts: Any, *, long: Any) -> tuple[list[Any], int]:
            return await model.embed(list(texts)), 1

    server = rpc.Server(ServiceSettings(name="embeddings", rpc_port=0, host="127.0.0.1"), Calls(Vectors()).add)  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.run()), daemon=True)
    thread.start()
    while not server.port:
        time.sleep(0.01)
    with TestClient(create(settings.model_copy(update={"embeddings": f"127.0.0.1:{server.port}"}))) as client:
        store = make_store(client)
        add(client, store, upload(client, TEXTS["cats.txt"], "cats.txt"))
        assert found(client, store, "cats") == ["cats.txt"]


# --- access rights --------------------------------------------------------------------------------

USERS = ("ann", "bob", "eve")
TEAMS = {"ann": ("team:red",), "bob": ("team:red", "team:blue"), "eve": ()}


@pytest.fixture(scope="module")
def grants() -> dict[str, Grant]:
    people = {f"{tenant}-{user}": Grant(tenant, user, user, ("retrieval",)) for tenant in ("a", "b") for user in USERS}
    admins = {f"{tenant}-admin": Grant(tenant, "x", "", ("retrieval", "manage")) for tenant in ("a", "b")}
    return {**people, **admins, "a-service": Grant("a", "s", "", ("retrieval",))}


@pytest.fixture
def shared(
    settings: RetrieverSettings, model: Model, known_keys: Any, grants: dict[str, Grant], monkeypatch: Any
) -> Any:
    """Retriever with keys, and with teams as the User service would report them."""
    from retriever.searching import Readers

    async def teams(_: Readers, caller: Grant, __: str) -> list[str]:
        return list(TEAMS[caller.user])

    monkeypatch.setattr(Readers, "teams", teams)
    with TestClient(create(settings.model_copy(update=known_keys(grants)), model)) as client:
        deadline = time.monotonic() + 10
        while client.get("/v1/vector_stores", headers=as_("a-service")).status_code != 200:
            assert time.monotonic() < deadline
        yield client


def as_(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


READERS = st.sampled_from([("*",), ("user:ann",), ("user:bob", "user:eve"), ("team:red",), ("team:blue",)])
DOCUMENTS = st.lists(st.tuples(st.sampled_from(["a", "b"]), READERS), min_size=1, max_size=6)


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(DOCUMENTS)
def test_nothing_leaks_to_other_tenants_or_readers(shared: httpx.Client, documents: list[tuple[str, Any]]) -> None:
    stores = {tenant: make_store(shared, headers=as_(f"{tenant}-admin")) for tenant in ("a", "b")}
    held: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    for number, (tenant, readers) in enumerate(documents):
        headers, name = as_(f"{tenant}-admin"), f"{number}.txt"
        file = upload(shared, f"The secret plan number {number}.", name, headers=headers)
        add(shared, stores[tenant], file, readers=list(readers), headers=headers)
        held[tenant][name] = readers
    for tenant in ("a", "b"):
        for user in USERS:
            names = {"*", f"user:{user}", *TEAMS[user]}
            allowed = {name for name, readers in held[tenant].items() if names & set(readers)}
            for ranker, rerank in (("hybrid", False), ("dense", False), ("words", False), ("hybrid", True)):
                ranking = {"ranker": ranker, "rerank": rerank}
                more: dict[str, Any] = {"ranking_options": ranking, "headers": as_(f"{tenant}-{user}")}
                assert set(found(shared, stores[tenant], "the secret plan", **more)) == allowed
            other = "b" if tenant == "a" else "a"
            asked = shared.post(
                f"/v1/vector_stores/{stores[other]}/search", json={"query": "x"}, headers=as_(f"{tenant}-{user}")
            )
            assert asked.status_code == 404
        everything = set(found(shared, stores[tenant], "the secret plan", headers=as_(f"{tenant}-admin")))
        assert everything == set(held[tenant])
    public = {name for name, readers in held["a"].items() if "*" in readers}
    assert set(found(shared, stores["a"], "the secret plan", headers=as_("a-service"))) == public


def test_a_reader_of_passages_does_not_get_whole_files(shared: httpx.Client) -> None:
    file = upload(shared, "x", "x.txt", headers=as_("a-admin"))
    assert shared.get(f"/v1/files/{file}/content", headers=as_("a-ann")).status_code == 404
    assert shared.get(f"/v1/files/{file}/content", headers=as_("a-admin")).status_code == 200


# --- passages -------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab .\n!世", max_size=3000), st.integers(20, 60), st.integers(0, 10))
def test_passages_hold_the_whole_text(text: str, tokens: int, overlap: int) -> None:
    pieces = chunking.passages(text, tokens, overlap)
    covered = {place for piece in pieces for place in range(piece.start, piece.end)}
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered
    assert all(0 < piece.end - piece.start <= tokens * chunking.CHARACTERS for piece in pieces)
    for before, after in itertools.pairwise(pieces):
        assert before.start < after.start and before.end - after.start <= overlap * chunking.CHARACTERS


# --- answers --------------------------------------------------------------------------------------


def test_an_answer_names_its_sources() -> None:
    from retriever.answering import cited
    from retriever.engines import Hit

    hits = [Hit(str(n), f"file-{n}", n, f"text {n}", {}, 1.0) for n in range(3)]
    reported = cited("It is so [1], and not otherwise [3][9].", hits, {"file-0": "a.txt"})
    assert [(one.number, one.cited) for one in reported] == [(1, True), (2, False), (3, True)]


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "x-request-id"])
def test_an_unavailable_router_is_reported_for_any_request(
    settings: RetrieverSettings, model: Model, name: str
) -> None:
    away = settings.model_copy(update={"router": "127.0.0.1:1"})
    with TestClient(create(away, model), raise_server_exceptions=False) as client:
        store = make_store(client)
        asked = {"question": "Do cats sleep?", "model": "m"}
        answer = client.post(f"/v1/vector_stores/{store}/answer", json=asked, headers={name: b"Bearer \xe9\x01"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


# --- contracts ------------------------------------------------------------------------------------


def test_migrations_can_be_reverted_and_repeated(settings: RetrieverSettings) -> None:
    url = settings.database(pooled=False)
    migrate.migrate("retriever", url, "downgrade", "base")
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert rows == (1,)  # Alembic's own
    migrate.migrate("retriever", url)


def test_the_openapi_document_is_current() -> None:
    kept = json.loads((Path(__file__).parents[1] / "openapi.json").read_text())
    assert document() == kept
