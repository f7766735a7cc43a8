"""Paths in the pod, and connections to the server from inside the pod."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg2

DATA = Path("/data")
CLUSTER = DATA / "cluster"
"""PGDATA. It is created under another name first, so that it is either complete or missing."""
REQUEST = DATA / "restore.json"
"""File with a requested restore: {"until": "<ISO 8601 time>"}."""
BIN = Path("/opt/postgres/bin")
SOCKETS = "/run/postgres"
CREDENTIALS = Path(os.environ.get("CREDENTIALS", "/etc/credentials"))
PORT, POOL_PORT = 5432, 6432
SUPERUSER = "postgres"


class Problem(Exception):
    """A command has failed. The message says why."""


def password(login: str) -> str:
    """A login's password, from the mounted Secret."""
    try:
        return (CREDENTIALS / login / "postgres").read_text().strip()
    except OSError as error:
        raise Problem(f"there is no password for {login}: {error}") from None


def connect(database: str = "postgres", **more: Any) -> Any:
    """A connection through the socket as superuser; `more` overrides connection parameters."""
    given = {"host": SOCKETS, "port": PORT, "user": SUPERUSER, "dbname": database, "connect_timeout": 5, **more}
    connection = psycopg2.connect(**given)
    connection.autocommit = True
    return connection


def patiently(seconds: float, **more: Any) -> Any:
    """Wait up to `seconds` for a connection. Raises Problem."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return connect(**more)
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                raise Problem(f"the server does not answer: {error}") from None
            time.sleep(0.5)


@contextlib.contextmanager
def session(connection: Any) -> Iterator[Any]:
    """A cursor in autocommit mode. The connection is closed at the end."""
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def archive() -> tuple[list[str], str]:
    """Options and URL of the object store for backups; empty if there is none."""
    url = os.environ.get("BACKUP_URL", "")
    endpoint = os.environ.get("BACKUP_ENDPOINT", "")
    return (["--endpoint-url", endpoint] if endpoint else []), url
