"""Task for collections of vectors: creates a table and an HNSW index each. Then checks that searches work."""

from __future__ import annotations

import json
import os
from typing import Any

from psycopg2 import sql

from pgnode import layout
from pgnode.settings import PORT, Problem, password, patiently, session

OPERATORS = {"cosine": ("vector_cosine_ops", "<=>"), "l2": ("vector_l2_ops", "<->"), "dot": ("vector_ip_ops", "<#>")}


def main() -> int:
    """Run the task. PROVISION contains [{"name", "dimension", "metric", "links", "build_effort"}].

    PGOWNER owns the database of its name, if it is not the login PGUSER.
    """
    login = os.environ["PGUSER"]
    owner = os.environ.get("PGOWNER", login)
    reached = {"host": os.environ["PGHOST"], "port": os.environ.get("PGPORT", PORT), "user": login}
    with session(patiently(120, database=owner, password=password(login), **reached)) as cursor:
        if owner != login:
            cursor.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(owner)))
        cursor.execute("SET statement_timeout = 0")  # building the index of a large table takes long
        cursor.execute(layout.SCHEMA)
        for collection in json.loads(os.environ["PROVISION"]):
            _make(cursor, collection)
            _check(cursor, collection)
    print("all collections store and find vectors")
    return 0


def _dimension(cursor: Any, name: str) -> int | None:
    cursor.execute(
        "SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'embedding'",
        (f'vectors."{name}"',),
    )
    row = cursor.fetchone()
    return row[0] if row else None


def _make(cursor: Any, collection: dict[str, Any]) -> None:
    name, dimension = collection["name"], collection["dimension"]
    there = _dimension(cursor, name)
    if there is not None and there != dimension:
        raise Problem(
            f'collection "{name}" has dimension {there}, not {dimension}; nothing was changed: '
            "create a collection with another name and fill it again"
        )
    parts = {
        "table": sql.Identifier(name),
        "dimension": sql.Literal(dimension),
        "words": sql.Identifier(f"{name}_words"),
        "documents": sql.Identifier(f"{name}_documents"),
    }
    cursor.execute(sql.SQL(layout.TABLE).format(**parts))
    operators, _ = OPERATORS[collection["metric"]]
    wanted = f"m='{collection['links']}', ef_construction='{collection['build_effort']}'"
    cursor.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'vectors' AND indexname = %s", (f"{name}_near",))
    row = cursor.fetchone()
    if row and operators in row[0] and wanted in row[0]:
        return
    # Built next to the old index, which serves queries until the new one is complete.
    fresh = f"{name}_near_new"
    cursor.execute(sql.SQL("DROP INDEX IF EXISTS vectors.{}").format(sql.Identifier(fresh)))
    cursor.execute(
        sql.SQL(layout.NEAR).format(
            concurrently=sql.SQL("CONCURRENTLY"),
            name=sql.Identifier(fresh),
            table=parts["table"],
            operators=sql.SQL(operators),
            links=sql.Literal(collection["links"]),
            effort=sql.Literal(collection["build_effort"]),
        )
    )
    cursor.execute(sql.SQL("DROP INDEX IF EXISTS vectors.{}").format(sql.Identifier(f"{name}_near")))
    cursor.execute(
        sql.SQL("ALTER INDEX vectors.{} RENAME TO {}").format(sql.Identifier(fresh), sql.Identifier(f"{name}_near"))
    )


def _check(cursor: Any, collection: dict[str, Any]) -> None:
    table = sql.Identifier(collection["name"])
    near = [1.0] + [0.0] * (collection["dimension"] - 1)
    _, operator = OPERATORS[collection["metric"]]
    insert = "INSERT INTO vectors.{} (id, tenant, document, content, embedding) VALUES (%s, %s, '', '', %s)"
    find = "SELECT id FROM vectors.{} WHERE tenant = '.check' ORDER BY embedding {} %s::vector LIMIT 1"
    delete = "DELETE FROM vectors.{} WHERE tenant = '.check'"
    cursor.execute(sql.SQL(delete).format(table))
    cursor.execute(sql.SQL(insert).format(table), (".check", ".check", str(near)))
    cursor.execute(sql.SQL(find).format(table, sql.SQL(operator)), (str(near),))
    if cursor.fetchone() != (".check",):
        raise Problem(f'collection "{collection["name"]}" does not find a stored vector')
    cursor.execute(sql.SQL(delete).format(table))
