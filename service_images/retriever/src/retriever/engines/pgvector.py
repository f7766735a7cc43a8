"""Passages in PostgreSQL with pgvector, in a collection that the platform creates, with an HNSW index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from kit.database import Database
from psycopg import sql
from psycopg.types.json import Jsonb

from retriever.engines import Hit, Point, Scope, Where
from retriever.filters import Comparison, Compound

EF_SEARCH = 40
"""Least candidates of an HNSW search; pgvector's default. See docs/reference/figures.md for the recall."""
_BATCH = 1000
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class PgVector:
    """One collection. The next search sees all writes and deletions."""

    def __init__(self, database: Database, collection: str) -> None:
        self._database = database
        self._table = sql.SQL("vectors.{}").format(sql.Identifier(collection))

    async def prepare(self, dimension: int) -> None:
        """The platform creates the collection."""

    async def upsert(self, points: Sequence[Point]) -> None:
        """Writes all points in one transaction."""
        statement = sql.SQL(
            "INSERT INTO {} (id, tenant, document, readers, content, attributes, embedding) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s::vector) ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, "
            "document = excluded.document, readers = excluded.readers, content = excluded.content, "
            "attributes = excluded.attributes, embedding = excluded.embedding"
        ).format(self._table)
        rows = [
            (p.id, p.tenant, _document(p.store, p.document), list(p.readers), p.content,
             Jsonb({"position": p.position, "given": p.attributes}), _text(p.vector))
            for p in points
        ]  # fmt: skip
        async with self._database.transaction() as connection, connection.cursor() as cursor:
            await cursor.executemany(statement, rows)

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Takes effect at once."""
        begin, end = _range(store)
        which = sql.SQL("document = %s") if document else sql.SQL("document >= %s AND document < %s")
        values = (_document(store, document),) if document else (begin, end)
        async with self._database.transaction() as connection:
            statement = sql.SQL("DELETE FROM {} WHERE tenant = %s AND ").format(self._table) + which
            await connection.execute(statement, (tenant, *values))

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """Nearest by cosine. With a filter, the HNSW scan continues until there are enough results."""
        condition, values = _condition(scope)
        statement = sql.SQL(
            "SELECT id, document, content, attributes, 1 - far FROM (SELECT *, embedding <=> %s::vector AS far FROM {} "
            "WHERE {} ORDER BY far LIMIT %s) AS found ORDER BY far"
        ).format(self._table, condition)
        async with self._database.transaction() as connection:
            async with connection.pipeline():  # one round trip, which is a large part of a search's time
                await connection.execute(
                    f"SELECT set_config('hnsw.ef_search', '{max(EF_SEARCH, min(limit * 2, 1000))}', true), "
                    "set_config('hnsw.iterative_scan', 'strict_order', true)"
                )
                cursor = await connection.execute(statement, (_text(vector), *values, limit))
            return [_hit(row) for row in await cursor.fetchall()]

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Matches any of the words. The rank depends on their number and on how close together they are."""
        condition, values = _condition(scope)
        cosine = sql.SQL("rank" if vector is None else "1 - (embedding <=> %s::vector)")
        statement = sql.SQL(
            "WITH asked AS (SELECT replace(plainto_tsquery('simple', %s)::text, '&', '|')::tsquery AS q) "
            "SELECT id, document, content, attributes, {} FROM (SELECT *, ts_rank_cd(words, q, 1) AS rank "
            "FROM {}, asked WHERE words @@ q AND {} ORDER BY rank DESC, id LIMIT %s) AS found ORDER BY rank DESC, id"
        ).format(cosine, self._table, condition)
        # The outermost columns come first in the statement, after the query itself.
        given = [query.replace("\x00", " "), *([] if vector is None else [_text(vector)]), *values, limit]
        async with self._database.transaction() as connection:
            cursor = await connection.execute(statement, given)
            return [_hit(row) for row in await cursor.fetchall()]

    async def points(self) -> AsyncIterator[list[Point]]:
        """Ordered by ID."""
        after = ""
        while True:
            statement = sql.SQL(
                "SELECT id, tenant, document, readers, content, attributes, embedding::text FROM {} "
                "WHERE id > %s ORDER BY id LIMIT %s"
            ).format(self._table)
            async with self._database.transaction() as connection:
                rows = await (await connection.execute(statement, (after, _BATCH))).fetchall()
            if not rows:
                return
            yield [_point(row) for row in rows]
            after = rows[-1][0]

    async def count(self) -> int:
        """Exact count."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(sql.SQL("SELECT count(*) FROM {}").format(self._table))
            row = await cursor.fetchone()
        return row[0] if row else 0

    async def close(self) -> None:
        """Nothing to close: the database belongs to the service."""


def _document(store: str, document: str) -> str:
    return f"{store}:{document}"


def _range(store: str) -> tuple[str, str]:
    return f"{store}:", f"{store};"  # ";" follows ":" in ASCII


def _text(vector: Any) -> str:
    return "[" + ",".join(f"{number:.8g}" for number in vector) + "]"


def _hit(row: Any) -> Hit:
    name, document, content, attributes, score = row
    return Hit(name, document.split(":", 1)[1], attributes["position"], content, attributes["given"], float(score))


def _point(row: Any) -> Point:
    name, tenant, document, readers, content, attributes, embedding = row
    store, _, own = document.partition(":")
    vector = [float(number) for number in embedding[1:-1].split(",")]
    return Point(name, tenant, store, own, attributes["position"], content, vector, tuple(readers), attributes["given"])


def _condition(scope: Scope) -> tuple[sql.Composable, list[Any]]:
    begin, end = _range(scope.store)
    parts: list[sql.Composable] = [sql.SQL("tenant = %s AND document >= %s AND document < %s")]
    values: list[Any] = [scope.tenant, begin, end]
    if scope.readers is not None:
        parts.append(sql.SQL("readers && %s::text[]"))
        values.append(list(scope.readers))
    if scope.where is not None:
        condition, more = _where(scope.where)
        parts.append(condition)
        values += more
    return sql.SQL(" AND ").join(parts), values


def _where(wanted: Where) -> tuple[sql.Composable, list[Any]]:
    assert wanted is not None, "callers check this"
    if isinstance(wanted, Compound):
        parts = [_where(one) for one in wanted.filters]
        joined = sql.SQL(f" {wanted.type.upper()} ").join([part for part, _ in parts])
        return sql.SQL("({})").format(joined), [value for _, values in parts for value in values]
    return _comparison(wanted)


def _comparison(wanted: Comparison) -> tuple[sql.Composable, list[Any]]:
    there = sql.SQL("attributes->'given'->%s")
    if wanted.type in _COMPARE:
        value = wanted.values[0]
        if isinstance(value, (bool, str)):
            return sql.SQL("FALSE"), []
        condition = sql.SQL("(jsonb_typeof({}) = 'number' AND {} " + _COMPARE[wanted.type] + " %s)").format(
            there, there
        )
        return condition, [wanted.key, wanted.key, Jsonb(value)]
    same = sql.SQL("coalesce({} = ANY(%s::jsonb[]), FALSE)").format(there)
    values: list[Any] = [wanted.key, [Jsonb(value) for value in wanted.values]]
    return (same, values) if wanted.type in ("eq", "in") else (sql.SQL("NOT {}").format(same), values)
