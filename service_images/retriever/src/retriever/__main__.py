"""Starts Retriever."""

from __future__ import annotations

from pathlib import Path

from kit import dead_letters, service
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.objects import objects
from kit.quotas import Quota, Quotas
from kit.tenant_deletion import Erasing
from kit.workers import MB, Workers
from starlette.applications import Starlette

from retriever.answering import Answering
from retriever.api import PREFIX, Api
from retriever.embedding import Embedder, Embeddings
from retriever.engines import Engine, choice
from retriever.erasing import Erasure
from retriever.expiry import Expiry
from retriever.ingest import READING, Ingest
from retriever.searching import Readers, Searching
from retriever.set_aside import SetAside
from retriever.settings import RetrieverSettings

BUCKET = "documents"
_OWN_MB = 128
"""Memory of the service itself, uploads included."""
_WORKER_MB = READING.memory_mb + 32
"""Memory of a worker with a loaded parser."""


def quotas(settings: RetrieverSettings) -> Quotas:
    """Quotas of a tenant."""
    files = "SELECT {} FROM files WHERE tenant = %s"
    return Quotas(
        settings.name,
        (
            Quota("files", settings.quota_files, files.format("count(*)")),
            Quota("bytes of files", settings.quota_bytes, files.format("coalesce(sum(bytes), 0)"), size=True),
            Quota("stores", settings.quota_stores, "SELECT count(*) FROM stores WHERE tenant = %s"),
            Quota(
                "passages",
                settings.quota_passages,
                "SELECT coalesce(sum(passages), 0) FROM store_files WHERE tenant = %s",
            ),
        ),
    )


def processes(settings: RetrieverSettings, limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Number of workers that fit into the container's memory beside the service."""
    try:
        given = limit.read_text().strip()
    except OSError:
        given = "max"
    fit = 4 if given == "max" else (int(given) // MB - _OWN_MB) // _WORKER_MB
    return settings.workers or max(1, min(4, fit))


def create(settings: RetrieverSettings, embedder: Embedder | None = None, engine: Engine | None = None) -> Starlette:
    """Create the application. `embedder` and `engine` replace the configured ones."""
    database = Database(settings)
    remote = Embeddings(settings.embeddings) if embedder is None else None
    vectors = embedder or remote
    assert vectors is not None, "an engine is given or configured"
    index = engine or choice.engine(settings, database)
    kept = objects(settings, BUCKET)
    workers, most = Workers("reading", processes(settings), READING), quotas(settings)
    letters = DeadLetters(database)
    ingest = Ingest(database, kept, vectors, index, workers, most, SetAside(database, letters))
    readers, answering = Readers(settings.user), Answering(settings.router)
    callers = service.callers(settings)
    preparing = service.Once(lambda: index.prepare(settings.dimension), "the vector database is not set up yet")
    api = Api(
        database, kept, index, ingest, Searching(index, vectors), readers, answering, workers, most, settings.room_bytes
    )
    erasure = Erasure(database, kept, index)
    erasing = Erasing(database, settings.name, erasure.erase, lambda t: callers is not None and t in callers.tenants)
    deleted = erasing.events(settings, letters)
    return service.create(
        "Retriever",
        [*api.operations(), *dead_letters.operations(PREFIX, letters)],
        database=database,
        beside=[part for part in (preparing, ingest, letters, Expiry(database, api), callers, deleted) if part],
        checks={"vectors": preparing.check, **({"kafka": deleted.check} if deleted else {})},
        close=[part.close for part in (index, readers, answering, workers, remote) if part],
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(RetrieverSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
