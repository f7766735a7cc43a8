"""Deployment task: connects the store to data servers, with the store's own login there. Can be repeated."""

from __future__ import annotations

import os
import time
import urllib.parse
from typing import Any

from baonode import layout
from baonode.client import Client, Refused, Unreachable
from baonode.layout import Problem

ROLE, LOGIN = "platform.databases", "secret-store"
PATIENCE_S = 200.0


def main() -> int:
    """Write the connections, which the store tries at once.

    `PGHOST` is host or host:port of PostgreSQL, `CACHE_URL` the URL of the cache; without it, there is no connection.
    """
    deadline = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        try:
            client = Client(layout.address(), layout.authority())
            client.login(ROLE, layout.token().read_text().strip())
            for system, settings in _connections().items():
                client.write(f"database/config/{system}", settings)
        except (Unreachable, Refused, OSError, ValueError) as error:
            if str(error) != said:
                said = str(error)
                print(said, flush=True)
            if time.monotonic() > deadline:
                raise Problem(
                    f"the store cannot connect to its data servers after {PATIENCE_S:.0f} s: {error}"
                ) from None
            time.sleep(1)
            continue
        client.logout()
        print(f"the secret store makes logins for {', '.join(_connections())}", flush=True)
        return 0


def _connections() -> dict[str, dict[str, Any]]:
    """Settings of each connection by its name."""
    found: dict[str, dict[str, Any]] = {}
    if server := os.environ.get("PGHOST"):
        found["postgres"] = postgres(server, layout.password(LOGIN, "postgres"))
    if url := os.environ.get("CACHE_URL"):
        found["cache"] = cache(url, layout.password(LOGIN, "cache"))
    return found


def cache(url: str, password: str) -> dict[str, Any]:
    """The connection to the cache. Roles for the cache have names like "prompt.cache"."""
    parts = urllib.parse.urlsplit(url)
    return {
        "plugin_name": "valkey-database-plugin",
        "host": parts.hostname,
        "port": parts.port or 6379,
        "username": LOGIN,
        "password": password,
        "allowed_roles": "*.cache",
        "verify_connection": True,
    }


def postgres(server: str, password: str) -> dict[str, Any]:
    """The connection to PostgreSQL. Names of logins contain a dot, so none is that of a service."""
    host, _, port = server.partition(":")
    return {
        "plugin_name": "postgresql-database-plugin",
        "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@{host}:{port or 5432}/postgres",
        "username": LOGIN,
        "password": password,
        "allowed_roles": "*",
        "username_template": "{{ .RoleName | truncate 40 }}.{{ random 16 | lowercase }}",
        # The store sends a verifier, so that logged statements contain no password.
        "password_authentication": "scram-sha-256",
        "verify_connection": True,
    }
