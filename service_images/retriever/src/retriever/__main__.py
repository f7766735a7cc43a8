"""Starts Retriever."""

from __future__ import annotations

from kit import service
from kit.database import Database
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
    router: str = ""
    """host:port of the router's gRPC, where answers are asked for; empty: nowhere."""
    user: str = ""
    """host:port of User's gRPC, where teams are asked for; empty: there are none."""
    collection: str = "documents"
    dimension: int = 384
    engine: EngineName = EngineName.PGVECTOR
    engine_url: str = ""
    """Of an engine that is not the service's own database."""
    engine_key: SecretStr = SecretStr("")


def create(settings: RetrieverSettings, embedder: Embedder | None = None, engine: Engine | None = None) -> Starlette:
    """The application; `embedder` and `engine` instead of the configured ones."""
    database = Database(settings)
    remote = Embeddings(settings.embeddings) if embedder is None else None
    vectors = embedder or remote
    assert vectors is not None, "one of the two"
    index = engine or choice.engine(settings, database)
    kept = objects(settings, BUCKET)
    ingest = Ingest(database, kept, vectors, index)
    readers, answering = Readers(settings.user), Answering(settings.router)
    callers = service.callers(settings)
    preparing = service.Once(lambda: index.prepare(settings.dimension), "the vector database is not prepared yet")
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
    return service.main(RetrieverSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
