"""Migrates a service's tables: `python3 -m kit.migrate <service> upgrade|downgrade [revision]`.

A service's Alembic revisions are in `<package>/migrations/versions`. Replicas that start at the same time wait for each
other. A revision is applied atomically.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy
from alembic import command, context
from alembic.config import Config
from sqlalchemy.pool import NullPool

from kit.issued_login import IssuedLogin, IssuedLogins, System
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings

_LOCK = 0x6B6974
"""Number of the advisory lock for migrations."""
_PATIENCE_S = 120.0


def configuration(package: str, url: str) -> Config:
    """Alembic's configuration for a service's package."""
    found = importlib.import_module(package).__file__
    assert found is not None, "services are packages with an __init__.py"
    config = Config()
    config.set_main_option("script_location", str(Path(found).with_name("migrations")))
    config.attributes["url"] = url
    return config


def run() -> None:
    """Run migrations; each service's migrations/env.py calls this."""
    url = sqlalchemy.make_url(context.config.attributes["url"]).set(drivername="postgresql+psycopg")
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        # Services' logins have time limits, but the migration of a large table takes long.
        connection.execute(sqlalchemy.text("SET statement_timeout = 0"))
        connection.execute(sqlalchemy.text("SET idle_in_transaction_session_timeout = 0"))
        connection.execute(sqlalchemy.text(f"SELECT pg_advisory_lock({_LOCK})"))
        connection.commit()
        context.configure(connection=connection, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()


def migrate(package: str, url: str, direction: str = "upgrade", revision: str = "") -> None:
    """Migrate the tables to a revision. Default: the newest, or for a downgrade one step back."""
    config = configuration(package, url)
    if direction == "upgrade":
        command.upgrade(config, revision or "head")
    else:
        command.downgrade(config, revision or "-1")


@contextlib.contextmanager
def reached(settings: ServiceSettings) -> Iterator[str]:
    """Connection string of the database. With a secret store, waits for a login, which ends with the context."""
    if not settings.issues(System.POSTGRES):
        yield settings.database(pooled=False)
        return
    login = asyncio.run(_issued(settings))
    try:
        yield settings.database(pooled=False, login=(login.user, login.password))
    finally:
        asyncio.run(_ended(settings, login))


async def _issued(settings: ServiceSettings) -> IssuedLogin:
    store = SecretStore(settings)
    logins, said = IssuedLogins(store), ""
    try:
        while (found := await logins.round()) is None:
            if logins.problem != said:
                said = logins.problem
                print(f"waiting for the secret store to issue a login for PostgreSQL: {said}", file=sys.stderr)
            await asyncio.sleep(logins.pause_s())
    finally:
        await store.close()
    return found


async def _ended(settings: ServiceSettings, login: IssuedLogin) -> None:
    store = SecretStore(settings)
    await IssuedLogins(store).end(login)
    await store.close()


def main(arguments: list[str]) -> int:
    """Wait for the server, then migrate. Exit status 1 with a message after a failure."""
    if not arguments or (len(arguments) > 1 and arguments[1] not in ("upgrade", "downgrade")):
        print("usage: kit.migrate <service> [upgrade|downgrade [revision]]", file=sys.stderr)
        return 2
    settings = ServiceSettings(name=arguments[0])
    with reached(settings) as url:
        return _migrate(url, arguments)


def _migrate(url: str, arguments: list[str]) -> int:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            migrate(arguments[0], url, *arguments[1:3])
        except sqlalchemy.exc.OperationalError as error:
            if time.monotonic() > deadline:
                print(f"the database is unavailable: {error.orig}", file=sys.stderr)
                return 1
            time.sleep(1)
            continue
        print(f"{arguments[0]}: the tables are up to date")
        return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
