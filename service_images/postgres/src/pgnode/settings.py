"""Where things are in the pod, and how to reach the server from inside it."""

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
"""PGDATA; made whole under another name first, so that it is either complete or not there."""
REQUEST = DATA / "restore.json"
"""A restore that was asked for: {"until": "<ISO 8601 time>"}."""
BIN = Path("/opt/postgres/bin")
SOCKETS = "/run/postgres"
CREDENTIALS = Path(os.environ.get("CREDENTIALS", "/etc/credentials"))
PORT, POOL_PORT = 5432, 6432
SUPERUSER = "postgres"


class Problem(Exception):
    """Something that stops a command; the text says what and why."""


def password(login: str) -> str:
    """A login's password, as mounted."""
    try:
        return (CREDENTIALS / login / "postgres").read_text().strip()
    except OSError as error:
        raise Problem(f"no password for {login}: {error}") from None


def connect(database: str = "postgres", **more: Any) -> Any:
    """A connection by the socket as superuser, or as `more` says."""
    given = {"host": SOCKETS, "port": PORT, "user": SUPERUSER, "dbname": database, "connect_timeout": 5, **more}
    connection = psycopg2.connect(**given)
    connection.autocommit = True
    return connection


def patiently(seconds: float, **more: Any) -> Any:
    """A connection as soon as the server takes one, within `seconds`. Raises Problem."""
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
    """A cursor whose statements are each a transaction of its own; closes the connection in the end."""
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def archive() -> tuple[list[str], str]:
    """Options and URL of the object store that holds backups; empty where there is none."""
    url = os.environ.get("BACKUP_URL", "")
    endpoint = os.environ.get("BACKUP_ENDPOINT", "")
    return (["--endpoint-url", endpoint] if endpoint else []), url
