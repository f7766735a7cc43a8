"""Logins, databases and outboxes, as the services' intents ask for them. Can be run again at any time."""

from __future__ import annotations

import json
import os
from typing import Any

from psycopg2 import sql

from pgnode.settings import SUPERUSER, connect, password, patiently, session

OUTBOX = """
CREATE SCHEMA IF NOT EXISTS events AUTHORIZATION {owner};
CREATE TABLE IF NOT EXISTS events.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload jsonb NOT NULL,
    tracingspancontext text,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE events.outbox OWNER TO {owner};
GRANT USAGE ON SCHEMA events TO {capture};
GRANT SELECT ON events.outbox TO {capture};
"""


def main() -> int:
    """PROVISION holds {"databases": [{"name", "login", "extensions", "outbox"}], "capture": login or ""}."""
    wanted = json.loads(os.environ["PROVISION"])
    host = {"host": os.environ["PGHOST"], "password": password(SUPERUSER)}
    capture = wanted["capture"]
    with session(patiently(120, **host)) as cursor:
        if capture:
            _login(cursor, capture, "REPLICATION")
        for database in wanted["databases"]:
            _login(cursor, database["login"], "NOREPLICATION")
            _database(cursor, database, capture)
    for database in wanted["databases"]:
        with session(connect(database["name"], **host)) as cursor:
            _inside(cursor, database, capture)
    return 0


def _login(cursor: Any, name: str, replication: str) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    statement = "{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE {} PASSWORD {}"
    cursor.execute(
        sql.SQL(statement).format(
            sql.SQL(verb), sql.Identifier(name), sql.SQL(replication), sql.Literal(password(name))
        )
    )


def _database(cursor: Any, database: dict[str, Any], capture: str) -> None:
    name, owner = sql.Identifier(database["name"]), sql.Identifier(database["login"])
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database["name"],))
    if not cursor.fetchone():
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
    # Whoever is not named may not even connect.
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    if capture and database["outbox"]:
        cursor.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(name, sql.Identifier(capture)))


def _inside(cursor: Any, database: dict[str, Any], capture: str) -> None:
    for extension in database["extensions"]:
        cursor.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(extension)))
    if not (capture and database["outbox"]):
        return
    names = {"owner": sql.Identifier(database["login"]), "capture": sql.Identifier(capture)}
    cursor.execute(sql.SQL(OUTBOX).format(**names))
    cursor.execute("SELECT 1 FROM pg_publication WHERE pubname = 'outbox'")
    if not cursor.fetchone():
        cursor.execute("CREATE PUBLICATION outbox FOR TABLE events.outbox WITH (publish = 'insert')")
