"""Files and stores in the database."""

from __future__ import annotations

from typing import Any

from kit import outbox
from kit.database import Connection
from kit.errors import missing
from psycopg.rows import dict_row

TOPIC = "document.changed.v1"
_FILE = "id, name, bytes, media, purpose, extract(epoch FROM created)::bigint AS created"
_STORE_FILE = (
    "file, store, status, error, attributes, readers, chunk_tokens, overlap_tokens, passages, "
    "extract(epoch FROM created)::bigint AS created"
)


async def _one(connection: Connection, statement: str, values: tuple[Any, ...]) -> dict[str, Any] | None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchone()


async def file(connection: Connection, tenant: str, name: str) -> dict[str, Any]:
    """A file of a tenant. Raises ApiError(404)."""
    row = await _one(connection, f"SELECT {_FILE} FROM files WHERE tenant = %s AND id = %s", (tenant, name))
    if row is None:
        raise missing("file")
    return shown_file(row)


def shown_file(row: dict[str, Any]) -> dict[str, Any]:
    """As OpenAI shows it."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created"],
        "filename": row["name"],
        "purpose": row["purpose"],
        "status": "processed",
    }


async def files(connection: Connection, tenant: str, after: str, limit: int) -> list[dict[str, Any]]:
    """A tenant's files, the newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_FILE} FROM files WHERE tenant = %(t)s AND (%(a)s = '' OR (created, id) < "
            "(SELECT created, id FROM files WHERE id = %(a)s)) ORDER BY files.created DESC, id DESC LIMIT %(l)s",
            {"t": tenant, "a": after, "l": limit},
        )
        return [shown_file(row) for row in await cursor.fetchall()]


_STORE = """
SELECT s.id, s.name, s.metadata, extract(epoch FROM s.created)::bigint AS created,
    count(f.file) FILTER (WHERE f.status = 'in_progress') AS waiting,
    count(f.file) FILTER (WHERE f.status = 'completed') AS done,
    count(f.file) FILTER (WHERE f.status = 'failed') AS failed,
    coalesce(sum(f.passages), 0) AS passages
FROM stores s LEFT JOIN store_files f ON f.store = s.id
WHERE s.tenant = %(t)s AND {} GROUP BY s.id ORDER BY s.created DESC, s.id DESC LIMIT %(l)s
"""


async def store(connection: Connection, tenant: str, name: str) -> dict[str, Any]:
    """A store of a tenant. Raises ApiError(404)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_STORE.format("s.id = %(s)s"), {"t": tenant, "s": name, "l": 1})
        row = await cursor.fetchone()
    if row is None:
        raise missing("vector store")
    return _shown_store(row)


async def stores(connection: Connection, tenant: str, after: str, limit: int) -> list[dict[str, Any]]:
    """A tenant's stores, the newest first."""
    which = "(%(a)s = '' OR (s.created, s.id) < (SELECT created, id FROM stores WHERE id = %(a)s))"
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_STORE.format(which), {"t": tenant, "a": after, "l": limit})
        return [_shown_store(row) for row in await cursor.fetchall()]


def _shown_store(row: dict[str, Any]) -> dict[str, Any]:
    counts = {"in_progress": row["waiting"], "completed": row["done"], "failed": row["failed"], "cancelled": 0}
    return {
        "id": row["id"],
        "object": "vector_store",
        "created_at": row["created"],
        "name": row["name"],
        "metadata": row["metadata"],
        "status": "in_progress" if row["waiting"] else "completed",
        "usage_bytes": 0,
        "last_active_at": row["created"],
        "file_counts": {**counts, "total": sum(counts.values())},
    }


async def store_file(connection: Connection, name: str, of: str) -> dict[str, Any]:
    """A file in a store. Raises ApiError(404)."""
    row = await _one(connection, f"SELECT {_STORE_FILE} FROM store_files WHERE store = %s AND file = %s", (name, of))
    if row is None:
        raise missing("file")
    return shown_store_file(row)


async def store_files(connection: Connection, name: str, after: str, limit: int) -> list[dict[str, Any]]:
    """All files of a store, in order of their ids."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_STORE_FILE} FROM store_files WHERE store = %s AND file > %s ORDER BY file LIMIT %s",
            (name, after, limit),
        )
        return [shown_store_file(row) for row in await cursor.fetchall()]


def shown_store_file(row: dict[str, Any]) -> dict[str, Any]:
    """As OpenAI shows it."""
    failed = {"code": "invalid_file", "message": row["error"]} if row["status"] == "failed" else None
    static = {"max_chunk_size_tokens": row["chunk_tokens"], "chunk_overlap_tokens": row["overlap_tokens"]}
    return {
        "id": row["file"],
        "object": "vector_store.file",
        "created_at": row["created"],
        "vector_store_id": row["store"],
        "status": row["status"],
        "last_error": failed,
        "attributes": row["attributes"],
        "readers": row["readers"],
        "usage_bytes": 0,
        "chunking_strategy": {"type": "static", "static": static},
    }


async def note(
    connection: Connection, tenant: str, store_id: str, document: str, change: str, actor: str, chunks: int = 0
) -> None:
    """Into the outbox, for the audit log."""
    data = {"tenant": tenant, "store": store_id, "document": document, "change": change, "actor": actor}
    await outbox.put(connection, TOPIC, "retriever", tenant, {**data, "chunks": chunks})
