"""Logins, databases and outboxes, as the services' intents ask for them. Can be run again at any time."""

from __future__ import annotations

import json
import os
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from pgnode.settings import PORT, SUPERUSER, connect, password, patiently, session

OUTBOX = """
CREATE SCHEMA IF NOT EXISTS events AUTHORIZATION {owner};
CREATE TABLE IF NOT EXISTS events.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype text NOT NULL,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload text NOT NULL,
    tracingspancontext text,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE events.outbox OWNER TO {owner};
"""
"""Also where nobody reads it: a service writes into it with each change, and takes the row out at once."""
READ = """
GRANT USAGE ON SCHEMA events TO {capture};
GRANT SELECT ON events.outbox TO {capture};
"""
AS_TEXT = """
DO $$ BEGIN
    IF EXISTS (
        SELECT FROM information_schema.columns WHERE table_schema = 'events' AND table_name = 'outbox'
            AND column_name = 'payload' AND data_type <> 'text'
    ) THEN
        ALTER TABLE events.outbox ALTER COLUMN payload TYPE text;
    END IF;
END $$;
"""
"""Outboxes of earlier versions hold jsonb. Text passes through unread: no order of keys and no number changes, and the
log's reader has nothing to interpret. The table is almost empty: rows leave it with their transaction."""


LOST = """
SELECT slot_name FROM pg_replication_slots
WHERE slot_name LIKE 'outbox\\_%' AND wal_status = 'lost' AND NOT active
"""
"""Slots whose part of the log is gone: nothing can be read by them, and they stand in their connector's way."""
LIMITS_MS = {"statement_timeout": 30_000, "idle_in_transaction_session_timeout": 60_000}
"""Longer than any request is waited for, and short enough that what hangs holds nothing for long."""
REPLICATION = "rds_replication"
"""What a login must be granted at RDS to read the log. Source: Amazon RDS user guide, "Logical replication"."""


def main() -> int:
    """PROVISION holds {"databases": [{"name", "login", "extensions", "outbox"}], "capture": login or "", "managed"}.

    `managed`: nobody is superuser at the server; whoever makes logins and databases may do no more than that.
    """
    asked = json.loads(os.environ["PROVISION"])
    managed, capture = asked.get("managed", False), asked["capture"]
    user = os.environ.get("PGUSER", SUPERUSER)
    host = {"host": os.environ["PGHOST"], "port": os.environ.get("PGPORT", PORT), "user": user}
    host["password"] = password(user)
    with session(patiently(120, **host)) as cursor:
        if capture:
            _login(cursor, capture, replication=True, managed=managed)
            _drop_lost_slots(cursor)
        for database in asked["databases"]:
            _login(cursor, database["login"], replication=False, managed=managed)
            _limit(cursor, database["login"])
            _database(cursor, database, capture)
    for database in asked["databases"]:
        with session(connect(database["name"], **host)) as cursor:
            _inside(cursor, database, capture)
    return 0


def _drop_lost_slots(cursor: Any) -> None:
    cursor.execute(LOST)
    for (name,) in cursor.fetchall():
        cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        print(f"{name} was lost and is dropped: its connector begins anew; events between are not told", flush=True)


def _login(cursor: Any, name: str, *, replication: bool, managed: bool) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    # What only a superuser may say is not said where there is none; a new login has none of it anyway.
    marks = "" if managed else f"NOSUPERUSER NOCREATEDB NOCREATEROLE {'' if replication else 'NO'}REPLICATION"
    statement = "{} ROLE {} LOGIN {} PASSWORD {}"
    cursor.execute(
        sql.SQL(statement).format(
            sql.SQL(verb), sql.Identifier(name), sql.SQL(marks), sql.Literal(_verifier(cursor, name))
        )
    )
    if managed:
        # To make what belongs to a login, one has to be able to act as it.
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE").format(sql.Identifier(name)))
    if managed and replication:
        cursor.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(REPLICATION), sql.Identifier(name)))


def _verifier(cursor: Any, name: str) -> str:
    """What the server keeps in place of the password; a statement in its log tells nobody the password."""
    return encrypt_password(password(name), name, scope=cursor.connection, algorithm="scram-sha-256")


def _limit(cursor: Any, login: str) -> None:
    """How long a service's statements and open transactions may take. It holds behind a pool, too, where settings of a
    client's session would be those of another client a moment later. Migrations and index builds lift it."""
    for name, milliseconds in LIMITS_MS.items():
        statement = sql.SQL("ALTER ROLE {} SET {} = {}")
        cursor.execute(statement.format(sql.Identifier(login), sql.Identifier(name), sql.Literal(milliseconds)))


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
    if not database["outbox"]:
        return
    cursor.execute(sql.SQL(OUTBOX).format(owner=sql.Identifier(database["login"])))
    cursor.execute(AS_TEXT)
    if not capture:
        return
    cursor.execute(sql.SQL(READ).format(capture=sql.Identifier(capture)))
    cursor.execute("SELECT 1 FROM pg_publication WHERE pubname = 'outbox'")
    if not cursor.fetchone():
        cursor.execute("CREATE PUBLICATION outbox FOR TABLE events.outbox WITH (publish = 'insert')")
