"""Logins for PostgreSQL from a real OpenBao, in a real PostgreSQL, through the kit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bao_server import Store, until
from baonode import rotation
from baonode.client import Client, Refused
from kit import issued_login
from kit.database import Database
from kit.errors import ApiError
from kit.issued_login import IssuedLogins
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings
from pgnode import provision
from pgnode.server import HBA

from components.security import store_names, store_rights
from components.services.registry import SERVICES
from service_images.conftest import SOURCES
from service_images.ports import free_port

OWNERS = [name for name, one in SERVICES.items() if one.database]
SERVICE, OTHER = "billing", "prompt"
PASSWORDS = {"postgres": "of-the-superuser", store_names.ISSUER: "of-the-store"}


@dataclass
class Stand:
    """A store that is connected to a server."""

    store: Store
    server: Any
    folder: Path

    def provision(self, *services: str, issued: bool = True) -> str:
        """Run PostgreSQL's task, as a release with these services does. Returns what it says."""
        databases = [
            {"name": name, "login": name, "extensions": [], "outbox": False, "issued": issued} for name in services
        ]
        asked = {"databases": databases, "capture": "", "issuer": store_names.ISSUER if issued else ""}
        variables = {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PROVISION": json.dumps(asked)}
        variables |= {"CREDENTIALS": str(self.folder), "PYTHONPATH": str(SOURCES / "postgres" / "src")}
        command = [sys.executable, "-m", "pgnode", "provision"]
        done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def connect(self) -> None:
        """Run the store's task."""
        tokens = self.folder / "tokens"
        self.store.cluster.project(tokens, store_names.DATABASE_ACCOUNT, store_names.AUDIENCE)
        own = {
            "PGHOST": f"127.0.0.1:{self.server.port}",
            "CREDENTIALS": str(self.folder),
            "STORE_TOKEN": str(tokens),
        }
        self.store.environment |= own
        self.store.start("databases")
        for name in own:
            del self.store.environment[name]
        assert self.store.running.pop("databases").wait(60) == 0, self.store.log("databases")

    def settings(self, service: str = SERVICE) -> ServiceSettings:
        """As in a pod of the service."""
        port = self.server.port
        server = {"postgres_host": "127.0.0.1", "postgres_port": port, "postgres_pool_port": port}
        return self.store.settings(self.folder, service, store_issues=("postgres",), **server)

    def issue(self, service: str = SERVICE) -> tuple[Client, dict[str, Any]]:
        """A login, and the client that it belongs to."""
        client = self.store.client(service)
        return client, client.ask("GET", f"database/creds/{service}")

    def session(self, found: dict[str, Any], database: str = SERVICE) -> psycopg.Connection[Any]:
        """A session of a login."""
        return self.enter(found["data"]["username"], found["data"]["password"], database)

    def enter(self, user: str, password: str, database: str) -> psycopg.Connection[Any]:
        """A session."""
        url = self.server.url(database, user)
        return psycopg.connect(url, password=password, autocommit=True, connect_timeout=10)

    def root(self, question: str, *values: Any) -> list[Any]:
        """Rows for the superuser."""
        with self.enter("postgres", PASSWORDS["postgres"], "postgres") as session:
            return session.execute(question, values).fetchall()

    def logins(self, service: str = SERVICE) -> list[str]:
        """Logins of the service that are there."""
        return [name for (name,) in self.root("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", f"{service}.%")]

    def rotate(self, service: str = SERVICE) -> None:
        """As `forge rotate` does."""
        operator = self.store.operator()
        operator.write(f"kv/data/{service}/{store_rights.ROTATION}", {"data": {}})


@pytest.fixture(scope="module")
def stand(shared_store: Store, postgres_class: Any) -> Iterator[Stand]:
    with tempfile.TemporaryDirectory(prefix="cogniforge-logins-") as at:
        server = postgres_class(Path(at) / "server", free_port())
        server.folder.mkdir()
        Path(at).chmod(0o755)
        server.start()
        with psycopg.connect(server.url("postgres"), autocommit=True) as root:
            root.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORDS['postgres']}'")
            (server.folder / "data" / "pg_hba.conf").write_text(HBA)
            root.execute("SELECT pg_reload_conf()")
        folder = Path(at) / "credentials"
        for login, password in PASSWORDS.items():
            (folder / login).mkdir(parents=True)
            (folder / login / "postgres").write_text(password)
        made = Stand(shared_store, server, folder)
        made.provision(*OWNERS)
        made.connect()
        yield made
        server.kill()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for rotations more often."""
    monkeypatch.setattr(issued_login, "EVERY_S", 0.2)
    monkeypatch.setattr(issued_login, "_AGAIN_S", (0.2, 0.2))


def test_a_session_of_an_issued_login_acts_as_the_owner_with_its_limits(stand: Stand) -> None:
    _, found = stand.issue()
    assert found["data"]["username"].startswith(f"{SERVICE}.")
    assert found["lease_duration"] == store_rights.TOKEN_SECONDS
    with stand.session(found) as session:
        session.execute("CREATE TABLE made_by_a_login (one int)")
        owner = session.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_a_login'").fetchone()
        assert owner == (SERVICE,)
        for name, milliseconds in provision.LIMITS_MS.items():
            shown = session.execute("SELECT setting::int FROM pg_settings WHERE name = %s", (name,)).fetchone()
            assert shown == (milliseconds,)
        session.execute("DROP TABLE made_by_a_login")


def test_an_owner_cannot_log_in(stand: Stand) -> None:
    assert stand.root("SELECT rolcanlogin, rolpassword FROM pg_authid WHERE rolname = %s", SERVICE) == [(False, None)]
    with pytest.raises(psycopg.OperationalError):
        stand.enter(SERVICE, "", SERVICE)


def test_a_login_of_one_service_cannot_connect_to_the_database_of_another(stand: Stand) -> None:
    _, found = stand.issue()
    for other in OWNERS:
        if other != SERVICE:
            with pytest.raises(psycopg.OperationalError, match="permission denied"):
                stand.session(found, other)
    with stand.session(found) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        session.execute(f"SET ROLE {OTHER}")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_logins_for_its_own_database_and_no_other(stand: Stand, service: str) -> None:
    client = stand.store.client(service)
    allowed = set[str]()
    for other in SERVICES:
        with contextlib.suppress(Refused):
            client.ask("GET", f"database/creds/{other}")
            allowed.add(other)
        for path in (f"database/roles/{other}", "database/config/postgres", "sys/leases/revoke"):
            with pytest.raises(Refused):
                client.ask("POST", path, {})
    assert allowed == ({service} if service in OWNERS else set())


def test_the_stores_own_login_reads_no_data_and_gets_no_role_of_a_superuser(stand: Stand) -> None:
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        stand.enter(store_names.ISSUER, PASSWORDS[store_names.ISSUER], SERVICE)
    with stand.enter(store_names.ISSUER, PASSWORDS[store_names.ISSUER], "postgres") as session:
        for statement in ("ALTER ROLE postgres PASSWORD 'x'", "GRANT postgres TO CURRENT_USER", f"SET ROLE {SERVICE}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)


def test_an_ended_login_is_refused_and_its_sessions_end(stand: Stand) -> None:
    client, found = stand.issue()
    with stand.session(found) as session:
        client.logout()
        until(lambda: found["data"]["username"] not in stand.logins())
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        stand.session(found)


def test_a_login_that_is_already_gone_does_not_hinder_the_end_of_its_lease(stand: Stand) -> None:
    client, found = stand.issue()
    user = found["data"]["username"]
    with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
        root.execute(f'DROP ROLE "{user}"')
    client.logout()
    operator = stand.store.operator()
    identifier = found["lease_id"].rpartition("/")[2]
    until(lambda: identifier not in operator.names(f"sys/leases/lookup/database/creds/{SERVICE}"))


def test_no_log_shows_the_password_of_a_login(stand: Stand) -> None:
    _, found = stand.issue()
    password = found["data"]["password"]
    with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
        assert root.execute(
            "SELECT rolpassword LIKE 'SCRAM-SHA-256$%%' FROM pg_authid WHERE rolname = %s",
            (found["data"]["username"],),
        ).fetchone() == (True,)
    assert password not in stand.store.log()
    assert password not in (stand.server.folder / "log").read_text()


def test_a_renewed_login_lasts_longer(stand: Stand, often: None) -> None:
    now = [0.0]

    async def work() -> None:
        store = SecretStore(stand.settings())
        logins = IssuedLogins(store, clock=lambda: now[0])
        login = await logins.round()
        assert login is not None
        logins.take(login)
        with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
            root.execute(f"ALTER ROLE \"{login.user}\" VALID UNTIL '2026-01-01'")
        with pytest.raises(psycopg.OperationalError):
            stand.enter(login.user, login.password, SERVICE)
        now[0] = 1300.0
        assert await logins.round() is None
        assert not logins.problem
        assert logins.left_s() > 3500
        stand.enter(login.user, login.password, SERVICE).close()
        await logins.end(login)
        await store.close()
        assert login.user not in stand.logins()

    asyncio.run(work())


@contextlib.asynccontextmanager
async def under_load(database: Database, clients: int = 8) -> AsyncIterator[tuple[list[str], set[str]]]:
    """Queries without a pause. Yields the errors so far, and the users of the sessions."""
    errors, users, going = list[str](), set[str](), True

    async def ask() -> None:
        while going:
            try:
                async with database.transaction() as session:
                    cursor = await session.execute("SELECT session_user, pg_sleep(0.005)")
                    users.add(str((await cursor.fetchone() or ("",))[0]))
            except (ApiError, psycopg.Error) as error:
                errors.append(repr(error))
                await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(ask()) for _ in range(clients)]
    yield errors, users
    going = False
    await asyncio.gather(*tasks)


async def becomes(what: Callable[[], bool], within_s: float = 30) -> None:
    """Wait for a condition beside the load."""
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.05)


async def ready(database: Database) -> None:
    async with asyncio.timeout(30):
        while await database.check() is not None:
            await asyncio.sleep(0.05)


def test_a_rotation_under_load_fails_no_query_and_ends_the_old_login(stand: Stand, often: None) -> None:
    async def work() -> None:
        before = set(stand.logins())
        database = Database(stand.settings())
        await database.open()
        await ready(database)
        async with under_load(database) as (errors, users):
            await becomes(lambda: bool(users))
            for turn in range(2, 5):
                stand.rotate()
                await becomes(lambda turn=turn: len(users) == turn)
            await becomes(lambda: len(set(stand.logins()) - before) == 1)
        assert errors == []
        await database.close()
        assert set(stand.logins()) <= before  # a stopped pod leaves no login

    asyncio.run(work())


def test_a_rotation_by_the_operator_ends_the_logins_of_killed_pods_and_of_no_other(stand: Stand, often: None) -> None:
    async def work() -> None:
        _, killed = stand.issue()  # of a pod that has not ended its login
        database = Database(stand.settings())
        await database.open()
        await ready(database)
        operator = stand.store.operator()
        async with under_load(database) as (errors, users):
            await becomes(lambda: bool(users))
            (done,) = await asyncio.to_thread(rotation.rotate, operator, {f"postgres/{SERVICE}": 1}, 5)
        assert errors == []
        assert (done.problem, done.logins) == ("", 1)
        assert done.ended >= 1
        assert done.at
        with pytest.raises(psycopg.OperationalError):
            stand.session(killed)
        await database.close()
        (late,) = rotation.rotate(operator, {f"postgres/{SERVICE}": 1}, 0.5)
        assert late.problem.startswith("0 of 1 pods have a new login")

    asyncio.run(work())


def test_the_command_shows_the_state_and_takes_the_token_from_its_input(stand: Stand) -> None:
    token = stand.store.cluster.token(f"{store_names.AUDIENCE}-operator", store_names.AUDIENCE)
    own = {"STORE_ADDRESS": stand.store.url, "STORE_TLS": str(stand.store.cluster.folder)}
    own["PYTHONPATH"] = str(SOURCES / "openbao" / "src")

    def run(token: str) -> subprocess.CompletedProcess[str]:
        asked = json.dumps(
            {"token": token, "secrets": {f"postgres/{SERVICE}": 1, f"postgres/{OTHER}": 0}, "rotate": False}
        )
        command = [sys.executable, "-m", "baonode", "rotation"]
        return subprocess.run(command, env=os.environ | own, input=asked, capture_output=True, text=True, timeout=60)

    stand.rotate(OTHER)
    found = {one["secret"].removeprefix("postgres/"): one for one in json.loads(run(token).stdout)}
    assert found.keys() == {SERVICE, OTHER}
    assert found[OTHER]["rotations"] >= 1
    assert found[OTHER]["at"].endswith("Z")
    refused = run("nonsense")
    assert refused.returncode == 1
    assert refused.stderr.startswith("rotation: auth/kubernetes/login: 403")


def test_a_login_that_an_operator_ends_is_replaced(stand: Stand, often: None) -> None:
    async def work() -> None:
        before = set(stand.logins())
        database = Database(stand.settings())
        await database.open()
        await ready(database)
        first = set(stand.logins()) - before
        operator = stand.store.operator()
        for lease in operator.names(f"sys/leases/lookup/database/creds/{SERVICE}"):
            operator.ask("POST", f"sys/leases/revoke-prefix/database/creds/{SERVICE}/{lease}")
        stand.rotate()
        await becomes(lambda: bool(set(stand.logins()) - before - first))
        await ready(database)
        await database.close()

    asyncio.run(work())


def test_a_login_that_postgres_has_lost_is_replaced_within_seconds(stand: Stand, often: None) -> None:
    """As after a restore to a moment before its issue."""

    async def work() -> None:
        before = set(stand.logins())
        database = Database(stand.settings())
        await database.open()
        await ready(database)
        (lost,) = set(stand.logins()) - before
        with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
            root.execute(f'ALTER ROLE "{lost}" RENAME TO "{lost}-gone"')
            root.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE %s", (f"{lost}%",))
        async with asyncio.timeout(30):
            while await database.check() is not None or not set(stand.logins()) - before - {f"{lost}-gone"}:
                await asyncio.sleep(0.05)
        await database.close()
        with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
            root.execute(f'DROP ROLE "{lost}-gone"')

    asyncio.run(work())


def test_without_the_store_queries_go_on_and_a_start_waits_and_says_for_what(stand: Stand, often: None) -> None:
    async def work() -> None:
        database = Database(stand.settings())
        await database.open()
        await ready(database)
        async with under_load(database) as (errors, users):
            await becomes(lambda: bool(users))
            stand.store.kill("serve")
            new = Database(stand.settings())
            await new.open()
            begun = time.monotonic()
            await becomes(lambda: time.monotonic() - begun > 3)  # several rounds without the store
            said = await new.check()
            assert said is not None
            assert said.startswith("waiting for a login from the secret store: https://127.0.0.1:")
            with pytest.raises(ApiError, match="waiting for a login from the secret store"):
                async with new.transaction():
                    pass
            migrating = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kit.migrate", SERVICE),
                env=_environment(stand.settings()),
                stderr=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert migrating.stderr is not None
            line = await migrating.stderr.readline()
            if b"waiting for the secret store to issue a login" not in line:
                pytest.fail((line + await migrating.stderr.read()).decode())
            stand.store.start("serve")
            await ready(new)
            assert (await migrating.communicate())[0].endswith(f"{SERVICE}: the tables are up to date\n".encode())
            await new.close()
        assert errors == []
        await database.close()

    asyncio.run(work())


def _environment(settings: ServiceSettings) -> dict[str, str]:
    """This process' environment with these settings, and no others that a test before has left."""
    own = settings.model_dump(mode="json", include=settings.model_fields_set)
    paths = [SOURCES / "kit" / "src", SOURCES / SERVICE / "src"]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SERVICE_")},
        **{f"SERVICE_{n.upper()}": one if isinstance(one, str) else json.dumps(one) for n, one in own.items()},
        "PYTHONPATH": ":".join(map(str, paths)),
    }


def test_a_removed_service_loses_its_issued_logins(stand: Stand) -> None:
    _, found = stand.issue(OTHER)
    session = stand.session(found, OTHER)
    said = stand.provision(*(name for name in OWNERS if name != OTHER))
    assert f"{found['data']['username']} may no longer log in" in said
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        stand.session(found, OTHER)
    stand.provision(*OWNERS)


def test_a_login_that_the_store_has_forgotten_is_dropped_after_a_day(stand: Stand) -> None:
    _, found = stand.issue()
    user = found["data"]["username"]
    with stand.enter("postgres", PASSWORDS["postgres"], "postgres") as root:
        root.execute(f"ALTER ROLE \"{user}\" VALID UNTIL '2026-01-01'")
    assert f"{user} is dropped" in stand.provision(*OWNERS)
    assert user not in stand.logins()
