"""Provisioning task: creates logins, databases and outbox tables from the services' intents. Can be repeated."""

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
"""The outbox table. It also exists without change data capture: a service inserts a row with each change and deletes
it at once."""
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
"""Changes jsonb payloads of earlier versions to text. Text is passed on unchanged, including key order and number
formats, and the reader of the log need not parse it. The table is almost empty: transactions delete their rows."""


LOST = """
SELECT slot_name FROM pg_replication_slots
WHERE slot_name LIKE 'outbox\\_%' AND wal_status = 'lost' AND NOT active
"""
"""Finds slots whose part of the log was removed. They are unusable and block their connector."""
MARK = "A service of CogniForge"
"""Comment on the logins that this task has made. It revokes those that nobody asks for any more, and no others."""
UNASKED = """
WITH unasked AS (
    SELECT rolname FROM pg_roles WHERE shobj_description(oid, 'pg_authid') = %s AND NOT rolname = ANY(%s)
)
SELECT rolname FROM pg_roles WHERE rolcanlogin AND split_part(rolname, '.', 1) IN (TABLE unasked)
"""
"""Finds those logins, and the logins <service>.<random> that the secret store has made for them."""
EXPIRED = """
SELECT rolname FROM pg_roles WHERE rolname LIKE '%%.%%' AND split_part(rolname, '.', 1) = ANY(%s)
    AND rolvaliduntil < now() - interval '1 day'
"""
"""Finds logins that the secret store no longer knows, such as after a restore of the store. It deletes all others."""
ABANDONED = """
SELECT slot_name FROM pg_replication_slots
WHERE slot_name LIKE 'outbox\\_%%' AND NOT active AND NOT database = ANY(%s)
"""
"""Finds slots of outboxes that nobody asks for any more. They make the server keep its log up to the limit."""
LIMITS_MS = {"statement_timeout": 30_000, "idle_in_transaction_session_timeout": 60_000}
"""Time limits for services: longer than any request, and short enough to release locks of hanging transactions."""
REPLICATION = "rds_replication"
"""Role that a login needs on RDS to read the log. Source: Amazon RDS user guide, "Logical replication"."""


def main() -> int:
    """Run the task.

    PROVISION contains {"databases": [{"name", "login", "extensions", "outbox", "issued"}], "capture": login or "",
    "managed", "issuer"}. `managed`: there is no superuser; the login of this task may only create logins and
    databases. `issued`: the login owns the database but cannot log in; the secret store, whose own login is `issuer`,
    makes logins that act as the owner.
    """
    asked = json.loads(os.environ["PROVISION"])
    managed, capture, issuer = asked.get("managed", False), asked["capture"], asked.get("issuer", "")
    user = os.environ.get("PGUSER", SUPERUSER)
    host = {"host": os.environ["PGHOST"], "port": os.environ.get("PGPORT", PORT), "user": user}
    host["password"] = password(user)
    with session(patiently(120, **host)) as cursor:
        if capture:
            _login(cursor, capture, replication=True, managed=managed)
            _drop_lost_slots(cursor)
        if issuer:
            _issuer(cursor, issuer)
        for database in asked["databases"]:
            if database.get("issued"):
                _owner(cursor, database["login"], issuer)
            else:
                _login(cursor, database["login"], replication=False, managed=managed)
            _limit(cursor, database["login"])
            _database(cursor, database, capture)
        logins = [database["login"] for database in asked["databases"]]
        _revoke(cursor, [*logins, *([issuer] if issuer else [])])
        _drop_expired(cursor, logins)
        if capture:
            _drop_abandoned_slots(cursor, [one["name"] for one in asked["databases"] if one["outbox"]])
    for database in asked["databases"]:
        with session(connect(database["name"], **host)) as cursor:
            _inside(cursor, database, capture)
    return 0


def _drop_lost_slots(cursor: Any) -> None:
    cursor.execute(LOST)
    for (name,) in cursor.fetchall():
        cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        print(
            f"{name} was lost and is dropped: its connector starts again, and events in between are not published",
            flush=True,
        )


def _revoke(cursor: Any, asked: list[str]) -> None:
    """Refuse the logins of removed services, and end their sessions. Their databases stay as they are."""
    for login in asked:
        mark = sql.SQL("COMMENT ON ROLE {} IS {}")
        cursor.execute(mark.format(sql.Identifier(login), sql.Literal(MARK)))
    cursor.execute(UNASKED, (MARK, asked))
    for (login,) in cursor.fetchall():
        cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(login)))
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (login,))
        print(f"{login} may no longer log in; its database is kept", flush=True)


def _drop_expired(cursor: Any, owners: list[str]) -> None:
    cursor.execute(EXPIRED, (owners,))
    for (login,) in cursor.fetchall():
        cursor.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
        print(f"{login} is dropped: it has expired, and the secret store no longer knows it", flush=True)


def _drop_abandoned_slots(cursor: Any, databases: list[str]) -> None:
    cursor.execute(ABANDONED, (databases,))
    for (name,) in cursor.fetchall():
        cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,))
        print(f"{name} is dropped: nobody reads that outbox any more", flush=True)


def _issuer(cursor: Any, name: str) -> None:
    """The login with which the secret store makes and ends logins. It reads no data."""
    marks = "LOGIN NOSUPERUSER NOCREATEDB CREATEROLE NOREPLICATION"
    statement = sql.SQL("{} ROLE {} {} PASSWORD {}")
    verifier = sql.Literal(_verifier(cursor, name))
    cursor.execute(statement.format(_verb(cursor, name), sql.Identifier(name), sql.SQL(marks), verifier))
    cursor.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(name)))


def _owner(cursor: Any, name: str, issuer: str) -> None:
    """A role that owns a database and never logs in. The issuer may make members of the role, without being one."""
    marks = "NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION PASSWORD NULL"
    cursor.execute(
        sql.SQL("{} ROLE {} {}").format(_verb(cursor, name), sql.Identifier(name), sql.SQL(marks)),
    )
    grant = sql.SQL("GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE")
    cursor.execute(grant.format(sql.Identifier(name), sql.Identifier(issuer)))


def _verb(cursor: Any, role: str) -> sql.SQL:
    """Statement that makes the role as wanted."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    return sql.SQL("ALTER" if cursor.fetchone() else "CREATE")


def _login(cursor: Any, name: str, *, replication: bool, managed: bool) -> None:
    # Only a superuser may set these attributes. New logins do not have them by default.
    marks = "" if managed else f"NOSUPERUSER NOCREATEDB NOCREATEROLE {'' if replication else 'NO'}REPLICATION"
    statement = "{} ROLE {} LOGIN {} PASSWORD {}"
    cursor.execute(
        sql.SQL(statement).format(
            _verb(cursor, name), sql.Identifier(name), sql.SQL(marks), sql.Literal(_verifier(cursor, name))
        )
    )
    if managed:
        # To create objects that belong to a login, the current login must be a member of it.
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE").format(sql.Identifier(name)))
    if managed and replication:
        cursor.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(REPLICATION), sql.Identifier(name)))


def _verifier(cursor: Any, name: str) -> str:
    """SCRAM verifier of the password, so that logged statements do not contain the password."""
    return encrypt_password(password(name), name, scope=cursor.connection, algorithm="scram-sha-256")


def _limit(cursor: Any, login: str) -> None:
    """Set limits for a service's statements and idle transactions. As settings of the role, they work through the pool,
    too, whose server sessions are shared by clients. Migrations and index builds lift them."""
    for name, milliseconds in LIMITS_MS.items():
        statement = sql.SQL("ALTER ROLE {} SET {} = {}")
        cursor.execute(statement.format(sql.Identifier(login), sql.Identifier(name), sql.Literal(milliseconds)))


def _database(cursor: Any, database: dict[str, Any], capture: str) -> None:
    name, owner = sql.Identifier(database["name"]), sql.Identifier(database["login"])
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database["name"],))
    if not cursor.fetchone():
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, owner))
    # Other logins may not even connect.
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
