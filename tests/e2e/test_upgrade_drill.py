"""Parts are upgraded from older pins, downgraded, and enlarged during writes: nothing is lost.

In an environment of its own beside the local one, from copies of the project: each is a release with its own pin.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import nats
import pytest
from kubernetes import client
from nats.js.kv import KeyValue

from cli import local_environment
from components.config.platform import PlatformConfig
from components.data.needs import login_systems
from components.services.registry import SERVICES
from local import paths
from local.images import pipeline
from tests.e2e.data_client import DataClient, data_client, kill
from tests.e2e.drill_release import DEBEZIUM, MOVES, NAMESPACE, STACK, Release, configuration
from tests.e2e.write_loads import (
    CHANGES,
    CHANGES_READ,
    EVENTS,
    EVENTS_READ,
    KEYS,
    KEYS_READ,
    OBJECTS,
    OBJECTS_READ,
    ROWS,
    ROWS_READ,
    SCHEMAS,
    SCHEMAS_READ,
    writing,
)

# The first test creates an environment with its own images, upgrades and downgrades it.
pytestmark = [pytest.mark.drill("upgrade"), pytest.mark.timeout(1800)]
BUCKET = "check"
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Release]:
    """The earlier release, running. Files of the local environment and its images are restored at the end."""
    led = (local_environment.authority_file(), local_environment.key_file(), pipeline.index_file())
    access = {file: file.read_bytes() for file in led}
    made = Release(tmp_path_factory.mktemp("older"), older=True)
    try:
        made.up()
        yield made
    finally:
        made.forge("destroy", "--yes", "-s", STACK, check=False)
        for file, content in access.items():
            paths.write_private(file, content)
    names = {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}
    assert NAMESPACE not in names


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release(tmp_path_factory.mktemp("newer"), older=False)


@pytest.fixture(scope="module")
def inside(older: Release) -> Iterator[DataClient]:
    """A pod in the drill's environment with all logins."""
    data = PlatformConfig.model_validate(configuration()).data
    with data_client(sorted(login_systems(data, SERVICES)), NAMESPACE) as made:
        yield made


def brokers(inside: DataClient, program: str = "kafka_2.13") -> set[str]:
    """Versions that the three brokers run."""
    return {_jar(inside, f"kafka-{number}", f"/opt/kafka/libs/{program}-*.jar") for number in range(3)}


def _jar(inside: DataClient, pod: str, files: str) -> str:
    shown = inside.kubectl("exec", pod, "--", "sh", "-c", f"echo {files}").stdout.strip()
    return shown.rsplit("-", 1)[1].removesuffix(".jar").removesuffix(".Final")


VECTORS = """
with postgres("retriever") as connection:
    connection.execute(f'CREATE TABLE IF NOT EXISTS "{run}" (id int PRIMARY KEY, place vector(3))')
    connection.execute(f'CREATE INDEX IF NOT EXISTS "{run}-near" ON "{run}" USING hnsw (place vector_l2_ops)')
    for number in range(100): connection.execute(
        f'INSERT INTO "{run}" VALUES (%s, %s) ON CONFLICT DO NOTHING', (number, f"[{number},0,1]"))
    connection.execute("SET enable_seqscan = off")
    nearest = f'SELECT id FROM "{run}" ORDER BY place <-> %s::vector LIMIT 3'
    near = connection.execute(nearest, ("[41.8,0,1]",)).fetchall()
    version = connection.execute("SHOW server_version").fetchone()[0]
print(json.dumps({"version": version, "near": [row[0] for row in near]}))
"""
"""Vectors with an index, written if absent. Returns the server's version and the nearest vectors."""


def vectors(inside: DataClient, version: str, run: str) -> None:
    """Vectors are found by a server of this version."""
    assert inside.run(VECTORS, run=run) == {"version": version, "near": [42, 41, 43]}


class Server:
    """NATS in the drill's environment, for clients."""

    def __init__(self, api: client.ApiClient) -> None:
        core: Any = client.CoreV1Api(api)
        self._address = core.read_namespaced_pod("nats-0", NAMESPACE).status.pod_ip
        secret = core.read_namespaced_secret("login-nats", NAMESPACE).data["nats"]
        self._password = base64.b64decode(secret).decode()

    def with_bucket(self, work: Callable[[KeyValue], Awaitable[Found]]) -> Found:
        """Use the bucket of the platform's own check."""

        async def run() -> Found:
            connection = await nats.connect(f"nats://{self._address}:4222", user="nats", password=self._password)
            try:
                return await work(await connection.jetstream().key_value(BUCKET))
            finally:
                await connection.close()

        return asyncio.run(run())

    def keep(self, prefix: str, count: int = 300) -> None:
        """Write values, each acknowledged."""

        async def put(bucket: KeyValue) -> None:
            for number in range(count):
                await bucket.put(f"{prefix}.{number}", str(number).encode())

        self.with_bucket(put)

    def missing(self, prefix: str, count: int = 300) -> list[int]:
        """Values that are missing or changed."""

        async def look(bucket: KeyValue) -> list[int]:
            found = [(n, (await bucket.get(f"{prefix}.{n}")).value) for n in range(count)]
            return [number for number, value in found if value != str(number).encode()]

        return self.with_bucket(look)


LOADS = {
    "rows": (ROWS, 0.01),
    "events": (EVENTS, 0.0),
    "changes": (CHANGES, 0.05),
    "objects": (OBJECTS, 0.1),
    "schemas": (SCHEMAS, 0.2),
}
"""Concurrent writes, and the pause between two of them in seconds."""
NATS_VERSION = """
import asyncio, nats
async def main():
    connection = await nats.connect("nats://nats:4222", user="nats", password=secret("nats", "nats"))
    found = connection.connected_server_version
    await connection.close()
    return f"{found.major}.{found.minor}.{found.patch}"
print(json.dumps(asyncio.run(main())))
"""
SCHEMA_IDS = """
import urllib.request
def ask(path):
    with urllib.request.urlopen(f"http://schema-registry:8080{path}", timeout=10) as answer: return json.load(answer)
subjects = [subject for subject in ask("/apis/ccompat/v7/subjects") if not subject.startswith(run)]
print(json.dumps({
    "version": ask("/apis/registry/v3/system/info")["version"].removesuffix(".Final"),
    "ids": {name: ask(f"/apis/ccompat/v7/subjects/{name}/versions/latest")["id"] for name in subjects}}))
"""
"""(version of the server, ID of every event's schema, which consumers store)."""


def versions(inside: DataClient, registry: str) -> dict[str, str]:
    """Running versions, by part."""
    gateway = inside.kubectl("exec", "object-store-0", "--", "versitygw", "--version").stdout
    return {
        "kafka": ",".join(sorted(brokers(inside))),
        "debezium": _jar(inside, "change-data-capture-0", "/opt/kafka/libs/debezium-core-*.jar"),
        "nats": inside.run(NATS_VERSION),
        "object-store": next(word for word in gateway.split() if word.startswith("v1.")).removeprefix("v"),
        "schema-registry": registry,
    }


@dataclasses.dataclass
class Moved:
    """Observations during the upgrade and the downgrade of all parts."""

    run: str
    versions: list[dict[str, str]]
    """Versions before, after the upgrade, and after the downgrade."""
    schemas: list[dict[str, int]]
    """IDs of schemas at the same times."""
    missing_values: list[list[int]]
    """Versions of NATS, after the upgrade and after the downgrade."""
    loads: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def moved(older: Release, newer: Release, api: client.ApiClient, inside: DataClient) -> Moved:
    """Upgrade and downgrade every part during writes."""
    run = f"t{uuid.uuid4().hex[:10]}"
    seen = Moved(run, [], [], [], {})

    def look() -> Server:
        vectors(inside, MOVES["postgres"][len(seen.versions) % 2].removesuffix(".0"), f"{run}-near")
        registry = inside.run(SCHEMA_IDS, run=f"{run}-schemas")
        seen.versions.append(versions(inside, registry["version"]))
        seen.schemas.append(registry["ids"])
        return Server(api)

    look().keep("older")
    with contextlib.ExitStack() as stack:
        loads = {
            name: stack.enter_context(writing(inside, script, f"{run}-{name}", pause))
            for name, (script, pause) in LOADS.items()
        }
        newer.up()
        second = look()
        seen.missing_values.append(second.missing("older"))
        second.keep("newer")
        older.up()
        third = look()
        for load in loads.values():
            load.until_more()
    seen.missing_values.append(third.missing("older") + third.missing("newer"))
    seen.loads = {name: load.result for name, load in loads.items()}
    return seen


def test_parts_can_be_upgraded_and_downgraded(moved: Moved) -> None:
    moves = {name: move for name, move in MOVES.items() if name != "postgres"} | {"debezium": DEBEZIUM}
    before, now = ({name: move[when] for name, move in moves.items()} for when in (0, 1))
    assert moved.versions == [before, now, before]


def test_nats_keeps_its_values(moved: Moved) -> None:
    assert moved.missing_values == [[], []]


def test_postgres_keeps_every_acknowledged_row(moved: Moved, inside: DataClient) -> None:
    load = moved.loads["rows"]
    assert set(load["taken"]) <= set(inside.run(ROWS_READ, run=f"{moved.run}-rows")["rows"])
    assert len(load["taken"]) > 1000
    assert load["longest silence, s"] <= 60


def test_three_brokers_accept_every_event_with_one_of_them_stopped(moved: Moved, inside: DataClient) -> None:
    load, run = moved.loads["events"], f"{moved.run}-events"
    there = inside.run(EVENTS_READ, run=run, count=len(load["taken"]), seconds=150)
    assert set(load["taken"]) <= set(there)
    assert len(load["taken"]) > 1000
    assert load["refused"] == []
    assert load["fewest in sync"] == 2, "one broker at a time, and the next only when it is back in sync"
    assert load["longest silence, s"] <= 60


def test_no_change_is_missing_among_the_events_that_debezium_makes(moved: Moved, inside: DataClient) -> None:
    taken = moved.loads["changes"]["taken"]
    found = inside.run(CHANGES_READ, 200, run=f"{moved.run}-changes", taken=taken)
    assert found == {"missing": [], "overtook": []}
    assert len(taken) > 1000


def test_the_object_store_keeps_every_object(moved: Moved, inside: DataClient) -> None:
    load = moved.loads["objects"]
    assert inside.run(OBJECTS_READ, 200, run=f"{moved.run}-objects", taken=load["taken"]) == []
    assert len(load["taken"]) > 500
    assert load["longest silence, s"] <= 60


def test_the_registry_keeps_every_schema_and_its_id(moved: Moved, inside: DataClient) -> None:
    load = moved.loads["schemas"]
    assert inside.run(SCHEMAS_READ, 200, run=f"{moved.run}-schemas", taken=load["taken"]) == []
    assert len(load["taken"]) > 100
    assert load["longest silence, s"] <= 60
    before, now, back = moved.schemas
    assert before and before == now == back


def test_each_broker_has_found_the_zone_of_its_node(inside: DataClient) -> None:
    found = [inside.kubectl("exec", f"kafka-{number}", "--", "cat", "/tmp/zone").stdout for number in range(3)]
    assert found == ["local"] * 3


def test_the_consequences_of_the_move_are_shown_first(older: Release, newer: Release) -> None:
    said = newer.forge("upgrade-check", "-s", STACK).stdout
    moves = {**MOVES, "kafka: debezium": DEBEZIUM}
    missing = [name for name, (old, new) in moves.items() if f"| image {name} | safe | {old} -> {new} |" not in said]
    assert missing == [], said


def test_volumes_and_memory_grow_with_the_update_and_nothing_is_lost(
    older: Release, api: client.ApiClient, inside: DataClient, unique_name: str
) -> None:
    core: Any = client.CoreV1Api(api)
    Server(api).keep("grown")

    def larger(config: dict[str, Any]) -> None:
        config["data"]["nats"]["storage"] = config["data"]["postgres"]["storage"] = "1Gi"
        config["data"]["postgres"]["resources"]["memory"] = "256Mi"

    with writing(inside, ROWS, unique_name) as load:
        older.edit(STACK, larger)
        older.up()
    for name in ("data-nats-0", "data-postgres-0"):
        claim = core.read_namespaced_persistent_volume_claim(name, NAMESPACE)
        assert claim.status.capacity["storage"] == "1Gi", name
    assert Server(api).missing("grown") == []
    there = inside.run(ROWS_READ, run=unique_name)
    assert there["shared_buffers"] == "64MB"
    assert len(load.result["taken"]) > 100
    assert set(load.result["taken"]) <= set(there["rows"])
    assert load.result["longest silence, s"] <= 60


def test_no_acknowledged_key_is_lost_when_a_cache_that_keeps_all_is_killed(
    inside: DataClient, unique_name: str
) -> None:
    with writing(inside, KEYS, unique_name) as load:
        assert kill(inside, "cache-0") <= 60
        load.until_more()
    missing = inside.run(KEYS_READ, run=unique_name, taken=load.result["taken"])
    assert missing == []


def test_a_volume_that_would_shrink_is_refused_and_nothing_changes(
    older: Release, api: client.ApiClient, inside: DataClient
) -> None:
    core: Any = client.CoreV1Api(api)

    def capacity() -> str:
        return core.read_namespaced_persistent_volume_claim("data-nats-0", NAMESPACE).status.capacity["storage"]

    before = capacity()
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="128Mi"))
    refused = older.forge("up", "-s", STACK, check=False)
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="1Gi"))
    assert refused.returncode == 1 and "cannot shrink" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert inside.run(NATS_VERSION) == MOVES["nats"][0]
    assert capacity() == before


def test_the_release_that_is_drilled_is_this_one() -> None:
    pins = (paths.PROJECT / "components/versions.lock.yaml").read_text()
    assert [name for name, (_, now) in MOVES.items() if f"{name}: {{version: {now}," not in pins] == []
