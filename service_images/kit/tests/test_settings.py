"""Secrets come from files; connections that are made later use the password that the file has then."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from kit import bus
from kit.cache import Cache
from kit.database import Database
from kit.objects import Login
from kit.settings import ServiceSettings
from psycopg import sql
from pydantic import SecretStr


class OwnSettings(ServiceSettings):
    """A service with a secret of its own."""

    oidc_secret: SecretStr = SecretStr("")


class Folder:
    """The folder of a pod's secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, **secrets: str) -> None:
        """Replace files atomically, as the kubelet does."""
        for name, value in secrets.items():
            new = self.path / f".{name}.new"
            new.write_text(value)
            new.rename(self.path / name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    made = Folder(tmp_path / "secrets")
    made.path.mkdir()
    monkeypatch.setenv("SERVICE_SECRETS_FOLDER", str(made.path))
    return made


def test_a_secret_comes_from_the_file_that_is_named_like_its_variable(folder: Folder) -> None:
    folder.put(SERVICE_POSTGRES_PASSWORD="of postgres\n", SERVICE_OIDC_SECRET="of oidc")
    settings = OwnSettings()
    assert (settings.secret("postgres_password"), settings.secret("oidc_secret")) == ("of postgres", "of oidc")
    assert settings.secret("kafka_password") == ""
    assert settings.postgres_password.get_secret_value() == "of postgres" and "of postgres" not in repr(settings)


def test_an_argument_wins_over_a_variable_and_a_variable_over_a_file(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put(SERVICE_NATS_PASSWORD="file", SERVICE_CACHE_PASSWORD="file")
    monkeypatch.setenv("SERVICE_CACHE_PASSWORD", "variable")
    settings = ServiceSettings(nats_password=SecretStr("argument"))
    assert (settings.secret("nats_password"), settings.secret("cache_password")) == ("argument", "variable")
    folder.put(SERVICE_NATS_PASSWORD="new", SERVICE_CACHE_PASSWORD="new")
    assert (settings.secret("nats_password"), settings.secret("cache_password")) == ("argument", "variable")


def test_without_a_folder_there_are_no_secrets_and_no_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVICE_SECRETS_FOLDER", str(tmp_path / "none"))
    assert ServiceSettings().secret("postgres_password") == ""


def test_a_replaced_secret_is_read_again_and_a_lost_one_is_kept(folder: Folder) -> None:
    folder.put(SERVICE_OIDC_SECRET="old")
    settings = OwnSettings()
    folder.put(SERVICE_OIDC_SECRET="new")
    assert settings.secret("oidc_secret") == "new"
    folder.put(SERVICE_OIDC_SECRET="")
    assert settings.secret("oidc_secret") == "old"
    (folder.path / "SERVICE_OIDC_SECRET").unlink()
    assert settings.secret("oidc_secret") == "old"


def test_a_copy_with_another_secret_does_not_follow_the_file(folder: Folder) -> None:
    folder.put(SERVICE_OIDC_SECRET="file", SERVICE_NATS_PASSWORD="file")
    copied = OwnSettings().model_copy(update={"oidc_secret": SecretStr("given")})
    folder.put(SERVICE_OIDC_SECRET="new", SERVICE_NATS_PASSWORD="new")
    assert (copied.secret("oidc_secret"), copied.secret("nats_password")) == ("given", "new")


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1))
def test_any_password_is_part_of_the_connection_string(password: str) -> None:
    settings = ServiceSettings(name="notes", postgres_host="db", postgres_password=SecretStr(password))
    read = psycopg.conninfo.conninfo_to_dict(settings.database(pooled=True))
    assert (read["password"], read["host"], read["dbname"]) == (password, "db", "notes")


@pytest.fixture
def role(postgres_server: Any, service_database: Any) -> Iterator[dict[str, Any]]:
    """Settings of a service's database whose server wants the login's password, unlike for all other logins."""
    given: dict[str, Any] = service_database("rotated")
    hba = postgres_server.folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host all rotated 127.0.0.1/32 scram-sha-256\n{before}")
    _as_admin(postgres_server, "SELECT pg_reload_conf()")
    yield given
    hba.write_text(before)
    _as_admin(postgres_server, "SELECT pg_reload_conf()")


def _as_admin(server: Any, statement: str, *values: str) -> None:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*(sql.Literal(value) for value in values)))  # type: ignore[arg-type]


def test_a_new_database_connection_uses_a_replaced_password(
    folder: Folder, postgres_server: Any, role: dict[str, Any]
) -> None:
    _as_admin(postgres_server, "ALTER ROLE rotated PASSWORD {}", "first")
    folder.put(SERVICE_POSTGRES_PASSWORD="first")
    settings = ServiceSettings(name="rotated", **role)

    async def work() -> None:
        database = Database(settings, connections=2)
        await database.open()
        async with database.transaction() as held:
            await held.execute("SELECT 1")
            _as_admin(postgres_server, "ALTER ROLE rotated PASSWORD {}", "second")
            folder.put(SERVICE_POSTGRES_PASSWORD="second")
            # The first connection is in use, so the pool opens another one.
            async with database.transaction() as other:
                await other.execute("SELECT 1")
            await held.execute("SELECT 1")
        await database.close()

    asyncio.run(work())


def test_a_new_cache_connection_uses_a_replaced_password(folder: Folder, cache_server: str) -> None:
    admin = redis.Redis.from_url(cache_server)
    admin.acl_setuser("notes", enabled=True, passwords=["+first"], keys=["*"], categories=["+@all"])
    folder.put(SERVICE_CACHE_PASSWORD="first")
    settings = ServiceSettings(name="notes", cache_url=cache_server)

    async def work() -> None:
        cache = Cache(settings)
        await cache.put({"a": b"1"}, 60)
        assert await cache.get("a") == [b"1"]
        admin.acl_setuser("notes", enabled=True, passwords=["-first", "+second"])
        folder.put(SERVICE_CACHE_PASSWORD="second")
        admin.client_kill_filter(_type="normal", skipme=True)
        # The lost connection counts as a miss, after which the cache is left alone for two seconds.
        deadline = time.monotonic() + 20
        while await cache.get("a") != [b"1"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
        await cache.close()

    asyncio.run(work())


@contextlib.contextmanager
def _nats(folder: Path, port: int, password: str) -> Iterator[subprocess.Popen[bytes]]:
    file = folder / "nats.conf"
    file.write_text(f'authorization {{ users: [{{user: notes, password: "{password}"}}] }}\n')
    program = str(Path(sys.executable).with_name("nats-server"))
    process = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", str(port), "--config", str(file)], stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.integration
def test_a_reconnection_to_nats_uses_a_replaced_password(folder: Folder, tmp_path: Path) -> None:
    from service_images.ports import free_port

    port = free_port()
    folder.put(SERVICE_NATS_PASSWORD="first")
    settings = ServiceSettings(name="notes", nats_url=f"nats://127.0.0.1:{port}")

    async def work() -> None:
        again = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.1}
        with _nats(tmp_path, port, "first"):
            await _started(port)
            client = await bus.connect(settings.nats_url, bus.options(settings), **again)
        folder.put(SERVICE_NATS_PASSWORD="second")
        with _nats(tmp_path, port, "second"):
            async with asyncio.timeout(60):
                while not client.stats["reconnects"]:
                    await asyncio.sleep(0.05)
                await client.flush()
            await client.close()

    asyncio.run(work())


async def _started(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                await asyncio.open_connection("127.0.0.1", port)
                return
            await asyncio.sleep(0.05)


def test_each_request_to_the_object_store_is_signed_with_the_current_password(folder: Folder) -> None:
    folder.put(SERVICE_OBJECTS_PASSWORD="first")
    login = Login(ServiceSettings(name="notes"))
    assert login.retrieve().secret_key == "first"
    folder.put(SERVICE_OBJECTS_PASSWORD="second")
    assert (login.retrieve().access_key, login.retrieve().secret_key) == ("notes", "second")
