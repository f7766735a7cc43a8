"""Queries for files, stores and batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kit import outbox
from kit.database import Connection
from kit.errors import ApiError, missing
from psycopg.rows import dict_row

from retriever.models import Page

TOPIC = "document.changed.v1"
Shown = dict[str, Any]
_COUNTS = """
    count(f.file) FILTER (WHERE f.status = 'in_progress') AS in_progress,
    count(f.file) FILTER (WHERE f.status = 'completed') AS completed,
    count(f.file) FILTER (WHERE f.status = 'failed') AS failed,
    count(f.file) FILTER (WHERE f.status = 'cancelled') AS cancelled,
    coalesce(sum(f.bytes), 0)::bigint AS used
"""
_FILE = """
SELECT d.*, d.created AS at, extract(epoch FROM d.created)::bigint AS created_at,
    extract(epoch FROM d.expires)::bigint AS expires_at
FROM files d WHERE d.tenant = %(tenant)s AND (d.expires IS NULL OR d.expires > now())
"""
_STORE = f"""
SELECT s.*, s.created AS at, extract(epoch FROM s.created)::bigint AS created_at,
    extract(epoch FROM s.active)::bigint AS active_at,
    extract(epoch FROM s.active + make_interval(days => s.expires_days))::bigint AS expires_at,
    coalesce(s.active + make_interval(days => s.expires_days) <= now(), false) AS expired, {_COUNTS}
FROM stores s LEFT JOIN store_files f ON f.store = s.id WHERE s.tenant = %(tenant)s
"""
_STORE_FILE = """
SELECT f.*, f.file AS id, f.created AS at, extract(epoch FROM f.created)::bigint AS created_at, d.owner
FROM store_files f JOIN files d ON d.id = f.file WHERE f.store = %(store)s
"""
_BATCH = f"""
SELECT b.id, b.store, b.cancelled AS stopped, extract(epoch FROM b.created)::bigint AS created_at, {_COUNTS}
FROM batches b LEFT JOIN store_files f ON f.batch = b.id WHERE b.store = %(store)s AND b.id = %(batch)s GROUP BY b.id
"""


@dataclass(frozen=True)
class Query:
    """A statement with its values, to which conditions can be added."""

    statement: str
    values: dict[str, Any] = field(default_factory=dict[str, Any])
    group: str = ""

    def where(self, condition: str, **values: Any) -> Query:
        """The query with another condition."""
        return Query(f"{self.statement} AND {condition}", {**self.values, **values}, self.group)

    async def one(self, connection: Connection, what: str) -> Shown:
        """The only row. Raises ApiError(404)."""
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(self.statement + self.group, self.values)
            row = await cursor.fetchone()
        if row is None:
            raise missing(what)
        return row

    async def page(self, connection: Connection, page: Page) -> tuple[list[Shown], bool]:
        """(rows of a page, whether there are more). Raises ApiError(400) for a cursor that is not in the list."""
        inner = f"SELECT * FROM ({self.statement}{self.group}) AS found"
        values, conditions = dict(self.values), list[str]()
        for name, ahead in (("after", page.order == "asc"), ("before", page.order == "desc")):
            if place := getattr(page, name):
                values[name] = (await self._place(connection, name, place), place)
                conditions.append(f"(at, id) {'>' if ahead else '<'} (%({name}_at)s, %({name}_id)s)")
                values[f"{name}_at"], values[f"{name}_id"] = values.pop(name)
        backwards = bool(page.before) and not page.after  # the page directly before the cursor, not the first page
        order = page.order if not backwards else {"asc": "desc", "desc": "asc"}[page.order]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        limit = f" ORDER BY at {order}, id {order} LIMIT {page.limit + 1}"
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(inner + where + limit, values)
            rows = await cursor.fetchall()
        found = rows[: page.limit]
        return (found[::-1] if backwards else found), len(rows) > page.limit

    async def _place(self, connection: Connection, name: str, place: str) -> Any:
        statement = f"SELECT at FROM ({self.statement}{self.group}) AS found WHERE id = %(place)s"
        row = await (await connection.execute(statement, {**self.values, "place": place})).fetchone()
        if row is None:
            raise ApiError(400, f"{name}: {place} is not in this list", param=name)
        return row[0]


def files(tenant: str) -> Query:
    """A tenant's files."""
    return Query(_FILE, {"tenant": tenant})


def stores(tenant: str) -> Query:
    """A tenant's stores."""
    return Query(_STORE, {"tenant": tenant}, " GROUP BY s.id")


def store_files(store: str) -> Query:
    """A store's files."""
    return Query(_STORE_FILE, {"store": store})


async def file(connection: Connection, tenant: str, name: str) -> Shown:
    """A file's row. Raises ApiError(404)."""
    return await files(tenant).where("d.id = %(id)s", id=name).one(connection, "file")


async def store(connection: Connection, tenant: str, name: str) -> Shown:
    """A store's row. Raises ApiError(404)."""
    return await stores(tenant).where("s.id = %(id)s", id=name).one(connection, "vector store")


async def store_file(connection: Connection, store: str, name: str) -> Shown:
    """The row of a file in a store. Raises ApiError(404)."""
    return await store_files(store).where("f.file = %(file)s", file=name).one(connection, "file")


async def batch(connection: Connection, store: str, name: str) -> Shown:
    """A batch's row. Raises ApiError(404)."""
    return await Query(_BATCH, {"store": store, "batch": name}).one(connection, "file batch")


def shown_file(row: Shown) -> Shown:
    """File object in OpenAI's format."""
    return {
        "id": row["id"],
        "object": "file",
        "bytes": row["bytes"],
        "created_at": row["created_at"],
        "expires_at": row["expires_at"],
        "filename": row["name"],
        "purpose": row["purpose"],
        "status": "processed",
        "owner": row["owner"],
        "readers": row["readers"],
    }


def _counts(row: Shown) -> Shown:
    counts = {status: row[status] for status in ("in_progress", "completed", "failed", "cancelled")}
    return {**counts, "total": sum(counts.values())}


def shown_store(row: Shown) -> Shown:
    """Store object in OpenAI's format."""
    expiry = {"anchor": "last_active_at", "days": row["expires_days"]} if row["expires_days"] else None
    return {
        "id": row["id"],
        "object": "vector_store",
        "created_at": row["created_at"],
        "name": row["name"],
        "description": row["description"],
        "metadata": row["metadata"],
        "status": "expired" if row["expired"] else "in_progress" if row["in_progress"] else "completed",
        "usage_bytes": row["used"],
        "last_active_at": row["active_at"],
        "expires_after": expiry,
        "expires_at": row["expires_at"],
        "file_counts": _counts(row),
        "owner": row["owner"],
    }


def shown_store_file(row: Shown) -> Shown:
    """Object of a file in a store, in OpenAI's format."""
    failed = {"code": row["code"] or "invalid_file", "message": row["error"]} if row["status"] == "failed" else None
    static = {"max_chunk_size_tokens": row["chunk_tokens"], "chunk_overlap_tokens": row["overlap_tokens"]}
    return {
        "id": row["file"],
        "object": "vector_store.file",
        "created_at": row["created_at"],
        "vector_store_id": row["store"],
        "status": row["status"],
        "last_error": failed,
        "attributes": row["attributes"],
        "readers": row["readers"],
        "usage_bytes": row["bytes"],
        "chunking_strategy": {"type": "static", "static": static},
    }


def shown_batch(row: Shown) -> Shown:
    """Batch object in OpenAI's format."""
    counts = _counts(row)
    done = "cancelled" if row["stopped"] else "failed" if counts["failed"] == counts["total"] > 0 else "completed"
    return {
        "id": row["id"],
        "object": "vector_store.files_batch",
        "created_at": row["created_at"],
        "vector_store_id": row["store"],
        "status": "in_progress" if counts["in_progress"] else done,
        "file_counts": counts,
    }


async def note(
    connection: Connection, tenant: str, store_id: str, document: str, change: str, actor: str, chunks: int = 0
) -> None:
    """Write an event to the outbox, for the audit log."""
    data = {"tenant": tenant, "store": store_id, "document": document, "change": change, "actor": actor}
    await outbox.put(connection, TOPIC, "retriever", tenant, {**data, "chunks": chunks})
