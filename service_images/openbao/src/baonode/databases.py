"""Deployment task: connects the store to PostgreSQL, with the store's own login there. Can be repeated."""

from __future__ import annotations

import os
import time

from baonode import layout
from baonode.client import Client, Refused, Unreachable
from baonode.layout import Problem

ROLE, LOGIN = "platform.databases", "secret-store"
PATIENCE_S = 200.0


def main() -> int:
    """Write the connection, which the store tries at once. `PGHOST` is host or host:port of the server."""
    deadline = time.monotonic() + PATIENCE_S
    said = ""
    while True:
        try:
            client = Client(layout.address(), layout.authority())
            client.login(ROLE, layout.token().read_text().strip())
            client.write("database/config/postgres", connection(os.environ["PGHOST"], layout.password(LOGIN)))
        except (Unreachable, Refused, OSError, ValueError) as error:
            if str(error) != said:
                said = str(error)
                print(said, flush=True)
            if time.monotonic() > deadline:
                raise Problem(f"the store cannot connect to PostgreSQL after {PATIENCE_S:.0f} s: {error}") from None
            time.sleep(1)
            continue
        client.logout()
        print("the secret store makes logins in PostgreSQL", flush=True)
        return 0


def connection(server: str, password: str) -> dict[str, object]:
    """The connection. Names of logins contain a dot, so none is that of a service."""
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
