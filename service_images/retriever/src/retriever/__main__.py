"""Starts Retriever."""

from __future__ import annotations

import asyncio

from kit import service
from kit.database import Database
from kit.errors import ApiError
from kit.objects import objects
from kit.settings import ServiceSettings
from pydantic import SecretStr
from starlette.applications import Starlette

from retriever.answering import Answering
from retriever.api import Api
from retriever.embedding import Embedder, Embeddings
from retriever.engines import Engine, choice
from retriever.engines.choice import EngineName
from retriever.ingest import Ingest
from retriever.searching import Readers, Searching

BUCKET = "documents"


class RetrieverSettings(ServiceSettings):
    """Retriever's settings."""

    name: str = "retriever"
    embeddings: str = "embeddings-rpc:9090"
    """Where the Embeddings service's gRPC is."""
    router_url: str = ""
    """Where answers are asked for; empty: nowhere."""
    user_url: str = ""
    """Where teams are asked for; empty: there are none."""
    collection: str = "documents"
    dimension: int = 384
    engine: EngineName = EngineName.PGVECTOR
    engine_url: str = ""
    """Of an engine that is not the service's own database."""
    engine_key: SecretStr = SecretStr("")


class Preparing:
    """Has an engine that is somebody else's make what it needs."""

    def __init__(self, engine: Engine, dimension: int) -> None:
        self._prepare = getattr(engine, "prepare", None)
        self._dimension = dimension
        self.done = self._prepare is None

    async def run(self) -> None:
        """Until it is done."""
        while not self.done and self._prepare is not None:
            try:
                await self._prepare(self._dimension)
                self.done = True
            except ApiError:
                await asyncio.sleep(2)

    async def check(self) -> str | None:
        """Readiness."""
        return None if self.done else "the vector database is not prepared yet"


def create(settings: RetrieverSettings, embedder: Embedder | None = None, engine: Engine | None = None) -> Starlette:
    """The application; `embedder` and `engine` instead of the configured ones."""
    database = Database(settings)
    remote = Embeddings(settings.embeddings) if embedder is None else None
    vectors = embedder or remote
    assert vectors is not None, "one of the two"
    index = engine or choice.engine(settings, database)
    kept = objects(settings, BUCKET)
    ingest = Ingest(database, kept, vectors, index)
    readers, answering = Readers(settings.user_url), Answering(settings.router_url)
    callers = service.callers(settings)
    preparing = Preparing(index, settings.dimension)
    api = Api(database, kept, index, ingest, Searching(index, vectors), readers, answering)
    return service.create(
        "Retriever",
        api.operations(),
        database=database,
        beside=[part for part in (preparing, ingest, callers) if part],
        checks={"vectors": preparing.check},
        close=[part.close for part in (index, readers, answering, remote) if part],
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    settings = RetrieverSettings()
    service.prepare(settings)
    return service.run(create(settings), settings)


if __name__ == "__main__":
    raise SystemExit(main())
