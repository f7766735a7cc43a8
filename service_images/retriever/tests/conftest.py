"""Fixtures with Retriever, a real PostgreSQL with pgvector, and the real embedding model."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

SOURCES = Path(__file__).resolve().parents[2]
for part in ("kit", "embeddings", "retriever"):
    sys.path.insert(0, str(SOURCES / part / "src"))

from embeddings.engine import Engine, shortened  # noqa: E402
from embeddings.reranking import Reranker  # noqa: E402
from kit import migrate  # noqa: E402
from retriever.__main__ import RetrieverSettings, create  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402


class Model:
    """The model itself, without a service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.fails = False

    async def embed(self, texts: Sequence[str]) -> list[Any]:
        """As the service would."""
        from kit.errors import ApiError

        if self.fails:
            raise ApiError(503, "Embeddings is unavailable.")
        tokens = [shortened(ids) for ids in self._engine.tokens(texts)]
        return list(await asyncio.to_thread(self._engine.run, tokens))

    async def of(self, texts: Sequence[str], *, long: Any = None) -> tuple[list[Any], int]:
        """The interface that the Embeddings service uses internally."""
        return await self.embed(texts), 0

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """As the service would."""
        return await Reranker(self).scores(query, texts)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def engine(model_folder: Path) -> Engine:
    return Engine(model_folder, 1)


@pytest.fixture
def model(engine: Engine) -> Model:
    return Model(engine)


@pytest.fixture
def settings(
    service_database: Callable[[str], dict[str, Any]], postgres_server: Any, tmp_path: Path
) -> RetrieverSettings:
    made = RetrieverSettings(**service_database("retriever"), objects_endpoint=f"file://{tmp_path}/objects")
    postgres_server.make_collection()
    postgres_server.index_collection()
    migrate.migrate("retriever", made.database(pooled=False))
    return made


@pytest.fixture
def retriever(settings: RetrieverSettings, model: Model) -> Iterator[httpx.Client]:
    with TestClient(create(settings, model), raise_server_exceptions=False) as client:
        yield client


def upload(client: httpx.Client, text: str | bytes, name: str = "note.txt", **more: Any) -> str:
    """Upload a file. Returns its ID."""
    answer = client.post("/v1/files", files={"file": (name, text)}, data={"purpose": "assistants"}, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def make_store(client: httpx.Client, **more: Any) -> str:
    """Create a store. Returns its ID."""
    answer = client.post("/v1/vector_stores", json={"name": "s"}, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def add(client: httpx.Client, store: str, file: str, wait: str = "completed", **more: Any) -> dict[str, Any]:
    """Add a file to a store, and wait for its final state."""
    headers = more.pop("headers", {})
    body = {"file_id": file, **more}
    answer = client.post(f"/v1/vector_stores/{store}/files", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return completed(client, f"/v1/vector_stores/{store}/files/{file}", wait, headers)


def completed(
    client: httpx.Client, path: str, wait: str = "completed", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Wait for the final state of a file in a store."""
    deadline = time.monotonic() + 60
    while (shown := client.get(path, headers=headers or {}).json())["status"] != wait:
        assert time.monotonic() < deadline, shown
        time.sleep(0.02)
    return shown


def found(client: httpx.Client, store: str, query: str, **more: Any) -> list[str]:
    """Names of the files in a search's results, best first."""
    headers = more.pop("headers", {})
    answer = client.post(f"/v1/vector_stores/{store}/search", json={"query": query, **more}, headers=headers)
    assert answer.status_code == 200, answer.text
    return [hit["filename"] for hit in answer.json()["data"]]
