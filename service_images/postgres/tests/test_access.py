"""Access to the replication log: the server's access rules, tested on a real server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgnode.server import HBA

from service_images.ports import free_port

PASSWORD = "a-password"


@pytest.fixture(scope="module")
def guarded(postgres_class: Any) -> Iterator[Any]:
    """A server with the platform's access rules, and logins with and without the right to capture."""
    with tempfile.TemporaryDirectory(prefix="cogniforge-access-") as folder:
        server = postgres_class(Path(folder), free_port())
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as root:
            root.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
            root.execute(f"CREATE ROLE capture LOGIN REPLICATION PASSWORD '{PASSWORD}'")
            root.execute(f"CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'")
            root.execute("CREATE DATABASE shop OWNER shop")
            (server.folder / "data" / "pg_hba.conf").write_text(HBA)
            root.execute("SELECT pg_reload_conf()")
        yield server
        server.kill()


def _connect(server: Any, user: str, database: str = "shop", **more: Any) -> psycopg.Connection:
    return psycopg.connect(server.url(database, user), password=PASSWORD, connect_timeout=10, **more)


@pytest.mark.parametrize("user", ["capture", "shop", "postgres"])
def test_the_whole_server_cannot_be_copied_over_the_network(guarded: Any, user: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="rejects replication connection"):
        _connect(guarded, user, replication="true")


def test_change_data_capture_reads_the_log_of_a_named_database(guarded: Any) -> None:
    with _connect(guarded, "capture", replication="database") as connection:
        assert connection.pgconn.exec_(b"IDENTIFY_SYSTEM").get_value(0, 3) == b"shop"


def test_an_ordinary_login_does_not_read_the_log(guarded: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match="REPLICATION attribute"):
        _connect(guarded, "shop", replication="database")


def test_a_password_is_required(guarded: Any) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(guarded.url("shop", "shop"), password="wrong", connect_timeout=10)
