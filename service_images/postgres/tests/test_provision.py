"""Logins, databases and outboxes, created by a superuser, and by an administrator without these rights, as at RDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

SOURCES = Path(__file__).resolve().parents[1] / "src"
MASTER, CAPTURE, OWNER, OTHER = "master", "capturing", "shop", "diary"
Provision = Callable[..., None]


@pytest.fixture(params=["superuser", "managed"])
def provision(request: pytest.FixtureRequest, postgres_server: Any, tmp_path: Path) -> Iterator[Provision]:
    """Run the task, as a superuser, or as a user who may only create logins and databases."""
    managed = request.param == "managed"
    user = MASTER if managed else "postgres"
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        if managed:
            root.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE").format(sql.Identifier(MASTER)))
            root.execute("CREATE ROLE rds_replication REPLICATION")
            root.execute(sql.SQL("GRANT rds_replication TO {} WITH ADMIN OPTION").format(sql.Identifier(MASTER)))
    for login in (user, CAPTURE, OWNER, OTHER):
        (tmp_path / login).mkdir()
        (tmp_path / login / "postgres").write_text(f"secret of {login}")

    def run(capture: str = CAPTURE, *, removed: str = "") -> None:
        # RDS lets its administrators add pgvector; a plain server lets superusers only.
        extension = "plpgsql" if managed else "vector"
        databases = [
            {"name": OWNER, "login": OWNER, "extensions": [extension], "outbox": True},
            {"name": OTHER, "login": OTHER, "extensions": [], "outbox": False},
        ]
        databases = [one for one in databases if one["name"] != removed]
        asked = {"databases": databases, "capture": capture, "managed": managed}
        variables = {"PGHOST": "127.0.0.1", "PGPORT": str(postgres_server.port), "PGUSER": user}
        variables |= {"PROVISION": json.dumps(asked), "CREDENTIALS": str(tmp_path), "PYTHONPATH": str(SOURCES)}
        command = [sys.executable, "-m", "pgnode", "provision"]
        result = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60)
        assert result.returncode == 0, result.stderr

    yield run
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        for database in (OWNER, OTHER):
            root.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
        for role in (CAPTURE, OWNER, OTHER, *((MASTER, "rds_replication") if managed else ())):
            root.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def test_it_can_be_run_again(provision: Provision) -> None:
    provision()
    provision()


def test_an_owner_writes_its_outbox_and_change_data_capture_reads_it(
    provision: Provision, postgres_server: Any
) -> None:
    provision()
    with psycopg.connect(postgres_server.url(OWNER, OWNER), autocommit=True) as owner:
        owner.execute("INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload) VALUES ('t','1','x','{}')")
    with psycopg.connect(postgres_server.url(OWNER, CAPTURE), autocommit=True) as capture:
        assert capture.execute("SELECT aggregateid FROM events.outbox").fetchall() == [("1",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            capture.execute("DELETE FROM events.outbox")


def test_an_owner_writes_its_outbox_without_change_data_capture(provision: Provision, postgres_server: Any) -> None:
    provision("")
    with psycopg.connect(postgres_server.url(OWNER, OWNER), autocommit=True) as owner:
        owner.execute("INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload) VALUES ('t','1','x','{}')")
    provision()
    with psycopg.connect(postgres_server.url(OWNER, CAPTURE), autocommit=True) as capture:
        assert capture.execute("SELECT aggregateid FROM events.outbox").fetchall() == [("1",)]


def test_a_removed_login_is_refused_at_once_and_its_database_stays(provision: Provision, postgres_server: Any) -> None:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        root.execute("CREATE ROLE visitor LOGIN")
    try:
        provision()
        with psycopg.connect(postgres_server.url(OTHER, OTHER), autocommit=True) as open_session:
            open_session.execute("CREATE TABLE diary AS SELECT 'Monday' AS entry")
            provision(removed=OTHER)
            with pytest.raises(psycopg.OperationalError):
                open_session.execute("SELECT * FROM diary")
        with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
            psycopg.connect(postgres_server.url(OTHER, OTHER))
        psycopg.connect(postgres_server.url("postgres", "visitor")).close()
        psycopg.connect(postgres_server.url(OWNER, OWNER)).close()
        provision()
        with psycopg.connect(postgres_server.url(OTHER, OTHER)) as again:
            assert again.execute("SELECT entry FROM diary").fetchall() == [("Monday",)]
    finally:
        with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
            root.execute("DROP ROLE visitor")


@pytest.mark.parametrize("provision", ["superuser"], indirect=True)
def test_the_slot_of_a_removed_outbox_goes(provision: Provision, postgres_server: Any) -> None:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        root.execute("ALTER SYSTEM SET wal_level = 'logical'")
    postgres_server.kill()
    postgres_server.start()
    provision()
    with psycopg.connect(postgres_server.url(OWNER), autocommit=True) as root:
        for name in (f"outbox_{OWNER}", "another"):
            root.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        left = "SELECT slot_name FROM pg_replication_slots ORDER BY slot_name"
        try:
            provision()
            assert root.execute(left).fetchall() == [("another",), (f"outbox_{OWNER}",)]
            provision(removed=OWNER)
            assert root.execute(left).fetchall() == [("another",)]
        finally:
            root.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


def test_no_login_can_connect_to_anothers_database(provision: Provision, postgres_server: Any) -> None:
    provision()
    for database, login in ((OTHER, OWNER), (OWNER, OTHER), (OTHER, CAPTURE)):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(postgres_server.url(database, login))


def test_change_data_capture_may_read_the_log_and_owners_may_not(provision: Provision, postgres_server: Any) -> None:
    provision()
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        found = root.execute(
            "SELECT rolname, rolreplication OR EXISTS (SELECT 1 FROM pg_auth_members m JOIN pg_roles g"
            " ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname = 'rds_replication')"
            " FROM pg_roles r WHERE rolname = ANY(%s)",
            ([CAPTURE, OWNER, OTHER],),
        ).fetchall()
    assert dict(found) == {CAPTURE: True, OWNER: False, OTHER: False}


def test_an_owner_makes_tables_and_nothing_beyond(provision: Provision, postgres_server: Any) -> None:
    provision()
    with psycopg.connect(postgres_server.url(OTHER, OTHER), autocommit=True) as owner:
        owner.execute("CREATE TABLE notes (id int)")
        for forbidden in ("CREATE ROLE thief", "CREATE DATABASE loot"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute(forbidden)


def test_an_outbox_of_an_earlier_version_becomes_text(provision: Provision, postgres_server: Any) -> None:
    provision()
    row = "INSERT INTO events.outbox (aggregatetype, aggregateid, type, payload) VALUES ('t', '1', 'x', %s)"
    with psycopg.connect(postgres_server.url(OWNER, OWNER), autocommit=True) as owner:
        owner.execute("ALTER TABLE events.outbox ALTER COLUMN payload TYPE jsonb USING payload::jsonb")
        owner.execute(row, ('{"b": 1}',))
    provision()
    exact = '{"b":1,"a":1.0,"c":[[1,2],["a"]],"d":[]}'
    with psycopg.connect(postgres_server.url(OWNER, OWNER), autocommit=True) as owner:
        owner.execute(row, (exact,))
        found = owner.execute("SELECT payload FROM events.outbox ORDER BY created").fetchall()
    assert found == [('{"b": 1}',), (exact,)]


def test_no_statement_that_the_server_may_log_holds_a_password(provision: Provision, postgres_server: Any) -> None:
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as root:
        root.execute("ALTER SYSTEM SET log_min_duration_statement = 0")
        root.execute("SELECT pg_reload_conf()")
        try:
            provision()
        finally:
            root.execute("ALTER SYSTEM RESET log_min_duration_statement")
            root.execute("SELECT pg_reload_conf()")
    log = (postgres_server.folder / "log").read_text()
    assert "ROLE" in log
    assert "secret of" not in log


def test_an_owners_statements_and_transactions_end_in_time(provision: Provision, postgres_server: Any) -> None:
    provision()
    with psycopg.connect(postgres_server.url(OWNER, OWNER), autocommit=True) as owner:
        for name, limit in (("statement_timeout", "30s"), ("idle_in_transaction_session_timeout", "1min")):
            assert owner.execute(f"SHOW {name}").fetchone() == (limit,)
