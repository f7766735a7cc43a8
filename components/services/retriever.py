"""Retriever: document stores, search, and answers with citations (RAG)."""

from __future__ import annotations

from collections.abc import Iterator

from components.config.base import Change, Section, quantity, setting
from components.config.data import Storage
from components.config.problems import Conflict
from components.observability.panel import panel, rate
from components.services.embeddings import VECTOR
from components.services.record import (
    DEAD_LETTER_HANDLED,
    QUOTA_REACHED,
    TENANT_DELETED,
    TENANT_ERASED,
    Body,
    Bundled,
    Objectives,
    Prefix,
    ServiceRecord,
    Surroundings,
)

DOCUMENTS_PERCENT = 50
"""Share of the object store's volume for documents. The rest is for backups and the write-ahead log: a full object
store would stop PostgreSQL."""


class DocumentQuotas(Section):
    """Limits on what a tenant stores in Retriever."""

    files: int = setting(Change.SAFE, "Files", default=10_000, ge=1, le=10_000_000)
    storage: Storage = setting(Change.SAFE, "Most bytes of all files together", default="2Gi")
    stores: int = setting(Change.SAFE, "Most vector stores", default=1000, ge=1, le=1_000_000)
    passages: int = setting(
        Change.SAFE, "Most passages of all vector stores together", default=1_000_000, ge=1, le=1_000_000_000
    )


class Retriever(Bundled):
    """Document stores, search, and answers with citations (RAG)."""

    quotas: DocumentQuotas = setting(Change.SAFE, "Limits per tenant", default=DocumentQuotas())


def _variables(section: Retriever, around: Surroundings) -> dict[str, str]:
    quotas = section.quotas
    found = {
        "SERVICE_QUOTA_FILES": str(quotas.files),
        "SERVICE_QUOTA_BYTES": str(int(quantity(quotas.storage))),
        "SERVICE_QUOTA_STORES": str(quotas.stores),
        "SERVICE_QUOTA_PASSAGES": str(quotas.passages),
    }
    if (store := around.data.object_store) and store.s3 is None:
        found["SERVICE_ROOM_BYTES"] = str(int(quantity(store.storage) * DOCUMENTS_PERCENT // 100))
    if vectors := around.data.vector_database:
        found["SERVICE_COLLECTION"] = next(c.name for c in vectors.collections if c.dimension == VECTOR)
        if vectors.server:
            found |= {"SERVICE_ENGINE": vectors.engine.value, "SERVICE_ENGINE_URL": vectors.server.url}
    return found


def _secrets(section: Retriever, around: Surroundings) -> dict[str, tuple[str, str]]:
    vectors = around.data.vector_database
    return {"SERVICE_ENGINE_KEY": (vectors.server.secret_name, "key")} if vectors and vectors.server else {}


def _conflicts(section: Retriever, around: Surroundings) -> Iterator[Conflict]:
    vectors = around.data.vector_database
    if vectors and not any(collection.dimension == VECTOR for collection in vectors.collections):
        text = f"a collection with dimension {VECTOR}, that of the Embeddings service's vectors"
        fix = f"add {{name: documents, dimension: {VECTOR}}}"
        shown = ", ".join(collection.name for collection in vectors.collections) or "(none)"
        yield Conflict(("data", "vectorDatabase", "collections"), shown, text, fix, ("services.retriever",))


RECORD = ServiceRecord(
    "retriever",
    title="Retriever",
    about="Document stores, search, and answers with citations",
    position=5,
    section=Retriever,
    prefixes=(Prefix("/v1/files", Body.LARGE), Prefix("/v1/vector_stores"), Prefix("/v1/retriever/")),
    asks=("user", "embeddings", "router"),
    needs={
        "data.vectorDatabase": "stores passages in the vector database",
        "services.embeddings": "needs Embeddings for vectors",
    },
    waits_for=("vector-database",),
    database=True,
    extensions=("vector",),
    consumes=(TENANT_DELETED,),
    outbox=("document.changed.v1", QUOTA_REACHED, TENANT_ERASED, DEAD_LETTER_HANDLED),
    follows=("tenants",),
    buckets=("documents",),
    collections=True,
    asks_for_keys=True,
    scopes=("retrieval",),
    objectives=Objectives(latency_seconds=2.0, latency_share=0.95),
    wheels=True,
    panels=(
        panel(
            "Processed files per second, by outcome",
            "Files that were split into passages, or could not be read.",
            "ops",
            (rate("retriever_files_total", "outcome"), "{{outcome}}"),
        ),
    ),
    # Uploads, 96 MiB at a time, and files of the parsers.
    scratch_mib=128,
    variables=_variables,
    secrets=_secrets,
    conflicts=_conflicts,
)
