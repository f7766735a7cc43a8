"""All engines behave alike, and passages can be migrated between any two."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit.database import Database
from kit.errors import ApiError
from retriever import filters, migrating
from retriever.__main__ import RetrieverSettings
from retriever.engines import Point, Scope
from retriever.engines.milvus import Milvus
from retriever.engines.pgvector import PgVector
from retriever.engines.pinecone import Pinecone
from retriever.engines.weaviate import Weaviate

from . import weaviate_server
from .weaviate_server import WeaviateServer
from .wire import MilvusWire, PineconeWire

WEAVIATE = pytest.param("weaviate", marks=pytest.mark.drill("engines"))
NAMES = ("pgvector", WEAVIATE, "milvus", "pinecone")
PAIRS = [
    pytest.param(*pair, marks=[pytest.mark.drill("engines")] if "weaviate" in pair else [])
    for pair in itertools.permutations(("pgvector", "weaviate", "milvus", "pinecone"), 2)
]
AXES = np.eye(4, dtype=np.float32)
ALL = ("*",)
POINTS = [
    Point("p0", "a", "s", "d0", 0, "red apple", AXES[0], ALL, {"k": "x", "n": 1.0}),
    Point("p1", "a", "s", "d0", 1, "green pear", AXES[1], ALL, {"k": "\U0001f34f", "n": 2}),
    Point("p2", "a", "s", "d1", 0, "red plum", AXES[2], ALL, {"k": "y", "b": True}),
    Point("p3", "a", "s", "d2", 0, "secret", AXES[0], ("user:ann",)),
    Point("q0", "a", "other", "d0", 0, "red apple", AXES[0]),
    Point("q1", "b", "s", "d0", 0, "red apple", AXES[0]),
]


@pytest.fixture(scope="module")
def weaviate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateServer]:
    with weaviate_server.running(tmp_path_factory.mktemp("weaviate")) as server:
        yield server


@pytest.fixture
def using(
    settings: RetrieverSettings, postgres_server: Any, request: pytest.FixtureRequest
) -> Callable[[Any, Any], Any]:
    """Function that runs work with new engines, by name."""
    with psycopg.connect(postgres_server.url("retriever"), autocommit=True) as connection:
        connection.execute("DROP INDEX vectors.documents_near")
        connection.execute("ALTER TABLE vectors.documents ALTER COLUMN embedding TYPE vector(4)")

    def weaviate_engine() -> Weaviate:
        server: WeaviateServer = request.getfixturevalue("weaviate")  # only for tests that use it: others need no build
        return Weaviate(server.url, server.key, f"t-{uuid.uuid4().hex}")

    def run(names: Sequence[str], work: Any) -> Any:
        async def main() -> Any:
            database = Database(settings)
            await database.open()

            def http(wire: Any) -> httpx.AsyncClient:
                return httpx.AsyncClient(transport=httpx.MockTransport(wire))

            made: dict[str, Any] = {
                "pgvector": lambda: PgVector(database, "documents"),
                "weaviate": weaviate_engine,
                "milvus": lambda: Milvus("http://m", "k", "documents", http(MilvusWire())),
                "pinecone": lambda: Pinecone("http://p", "k", http(PineconeWire())),
            }
            engines = [made[name]() for name in names]
            try:
                for engine in engines:
                    await engine.prepare(4)
                    await engine.prepare(4)  # again: nothing changes
                return await work(*engines)
            finally:
                for engine in engines:
                    await engine.close()
                await database.close()

        return asyncio.run(main())

    return run


def names(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_is_first_within_tenant_store_and_readers(using: Any, name: str) -> None:
    async def work(engine: Any) -> None:
        await engine.upsert(POINTS)
        assert names(await engine.near(Scope("a", "s", ("*",)), AXES[0], 10))[0] == "p0"
        assert set(names(await engine.near(Scope("a", "s", ("*",)), AXES[0], 10))) == {"p0", "p1", "p2"}
        assert set(names(await engine.near(Scope("a", "s", ("*", "user:ann")), AXES[0], 2))) == {"p0", "p3"}
        assert len(await engine.near(Scope("a", "s"), AXES[0], 10)) == 4
        (hit, *_) = await engine.near(Scope("b", "s", ("*",)), AXES[0], 10)
        assert (hit.id, hit.content, hit.position, hit.document) == ("q1", "red apple", 0, "d0")
        assert hit.score == pytest.approx(1.0, abs=1e-5)

    using([name], work)


@pytest.mark.parametrize("name", ["pgvector", WEAVIATE])
def test_words_are_found(using: Any, name: str) -> None:
    async def work(engine: Any) -> None:
        await engine.upsert(POINTS)
        assert set(names(await engine.worded(Scope("a", "s", ("*",)), "red", 10))) == {"p0", "p2"}
        assert names(await engine.worded(Scope("a", "s", ("*",)), "secret", 10)) == []

    using([name], work)


@pytest.mark.parametrize("name", NAMES)
def test_deleted_or_overwritten_passages_are_not_found(using: Any, name: str) -> None:
    async def work(engine: Any) -> None:
        await engine.upsert(POINTS)
        await engine.delete("a", "s", "d0")
        assert set(names(await engine.near(Scope("a", "s"), AXES[0], 10))) == {"p2", "p3"}
        await engine.delete("a", "s")
        assert await engine.near(Scope("a", "s"), AXES[0], 10) == []
        assert await engine.count() == 2
        await engine.upsert([Point("q1", "b", "s", "d9", 3, "new", AXES[1])])
        (hit,) = await engine.near(Scope("b", "s"), AXES[1], 10)
        assert (hit.document, hit.content, hit.position) == ("d9", "new", 3)

    using([name], work)


@pytest.mark.parametrize("name", NAMES)
def test_all_passages_are_read_and_deleted_however_many_there_are(using: Any, name: str) -> None:
    many = [Point(f"p{n:04}", "a", "s", f"d{n % 7}", n, f"number {n}", AXES[n % 4], ALL, {"n": n}) for n in range(1203)]

    async def work(engine: Any) -> None:
        for begin in range(0, len(many), 100):
            await engine.upsert(many[begin : begin + 100])
        found = [point async for page in engine.points() for point in page]
        wanted = [(point.id, point.document, point.position, point.attributes["n"]) for point in many]
        assert sorted((p.id, p.document, p.position, p.attributes["n"]) for p in found) == wanted
        assert await engine.count() == len(many)
        await engine.delete("a", "s")
        assert await engine.count() == 0

    using([name], work)


VALUES = st.one_of(st.sampled_from(["x", "y", 'a"b', "\U0001f34f", "x "]), st.sampled_from([1.0, 2.5]), st.booleans())
KEYS = st.sampled_from(["k", "n", "b"])
COMPARISONS = st.one_of(
    st.builds(lambda t, k, v: {"type": t, "key": k, "value": v}, st.sampled_from(["eq", "ne"]), KEYS, VALUES),
    st.builds(
        lambda t, k, v: {"type": t, "key": k, "value": v},
        st.sampled_from(["gt", "gte", "lt", "lte"]),
        KEYS,
        st.sampled_from([1.0, 2.0]),
    ),
    st.builds(
        lambda t, k, v: {"type": t, "key": k, "value": v},
        st.sampled_from(["in", "nin"]),
        KEYS,
        st.lists(VALUES, min_size=1, max_size=3),
    ),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        lambda t, f: {"type": t, "filters": f}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("name", NAMES)
def test_every_filter_means_the_same(using: Any, name: str) -> None:
    async def work(engine: Any) -> None:
        await engine.upsert(POINTS)
        mine = [point for point in POINTS if point.tenant == "a" and point.store == "s"]
        examples: list[Any] = []

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(FILTERS)
        def collect(wanted: Any) -> None:
            examples.append(filters.Compound.model_validate({"type": "and", "filters": [wanted]}))

        collect()
        for wanted in examples:
            found = set(names(await engine.near(Scope("a", "s", None, wanted), AXES[0], 10)))
            assert found == {p.id for p in mine if filters.matches(wanted, p.attributes)}, wanted

    using([name], work)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_passages_are_moved_and_the_copy_is_proven(using: Any, source: str, target: str) -> None:
    async def work(old: Any, new: Any) -> None:
        await old.upsert(POINTS)
        assert await migrating.migrate(old, new) == len(POINTS)
        assert await migrating.migrate(old, new) == len(POINTS), "again: nothing changes"
        assert set(names(await new.near(Scope("a", "s", ("*",)), AXES[0], 10))) == {"p0", "p1", "p2"}

    using([source, target], work)


@pytest.mark.parametrize("fault", ["lost", "changed"])
def test_an_incomplete_copy_is_reported(using: Any, fault: str) -> None:
    async def work(old: Any, new: Any) -> None:
        await old.upsert(POINTS)
        upsert = new.upsert

        async def faulty(points: Sequence[Point]) -> None:
            if fault == "lost":
                await upsert(points[1:])
            else:
                await upsert([Point(**{**vars(points[0]), "content": "another"}), *points[1:]])

        new.upsert = faulty
        with pytest.raises(migrating.NotWhole):
            await migrating.migrate(old, new)

    using(["milvus", "pinecone"], work)


def test_a_weaviate_that_is_too_old_is_refused() -> None:
    def old(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/meta", "no other request is sent"
        return httpx.Response(200, json={"version": "1.32.9"})

    engine = Weaviate("http://w", "k", "documents", httpx.AsyncClient(transport=httpx.MockTransport(old)))
    with pytest.raises(ApiError) as reported:
        asyncio.run(engine.prepare(4))
    assert reported.value.status == 503


@pytest.mark.parametrize("name", ["weaviate", "milvus", "pinecone"])
def test_an_unavailable_engine_is_reported(name: str) -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    http = httpx.AsyncClient(transport=httpx.MockTransport(away))
    engines: dict[str, Any] = {
        "weaviate": Weaviate("http://w", "k", "documents", http),
        "milvus": Milvus("http://m", "k", "documents", http),
        "pinecone": Pinecone("http://p", "k", http),
    }
    with pytest.raises(ApiError) as reported:
        asyncio.run(engines[name].near(Scope("a", "s"), AXES[0], 1))
    assert reported.value.status == 503
