"""Parts go from older pins to the present ones and back, and grow, while they are written to: nothing is lost.

In an environment of its own beside the local one, from copies of the project: each is a release with its own pin.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import nats
import pytest
import yaml
from kubernetes import client
from nats.js.kv import KeyValue

from cli import local_environment
from components.config import PlatformConfig
from components.data.layer import login_systems
from local import paths
from local.images import pipeline
from local.toolchain import shim
from tests.e2e.data_client import DataClient, data_client, kill
from tests.e2e.test_release import Checkout
from tests.e2e.write_loads import EVENTS, EVENTS_READ, KEYS, KEYS_READ, ROWS, ROWS_READ, writing

pytestmark = pytest.mark.e2e
OLDER, NEWER = "2.14.6", "2.15.1"
OLDER_KAFKA, NEWER_KAFKA = "4.2.0", "4.3.1"
OLDER_POSTGRES, NEWER_POSTGRES = "16.11", "16.14"
NAMESPACE, STACK, BUCKET = "drill", "local-drill", "check"
Found = TypeVar("Found")


class Release(Checkout):
    """A copy of the project with some parts' versions, which makes the drill's environment on the local node."""

    def __init__(self, folder: Path, older: bool) -> None:
        super().__init__(folder)
        own = shim.environment()
        for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PATH"):
            self._env.pop(name, None)
            if name in own:
                self._env[name] = own[name]
        (self.folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(
            yaml.safe_dump({"config": {"cogniforge:platform": configuration()}})
        )
        if older:
            self._pin("nats", NEWER, OLDER, "requirements.lock")
            self._pin("postgres", f"{NEWER_POSTGRES}.0", f"{OLDER_POSTGRES}.0", "requirements.lock")
            self._pin("kafka", NEWER_KAFKA, OLDER_KAFKA, "jars.lock")
            _replace(self.folder / "service_images/kafka/pom.xml", f"<kafka>{NEWER_KAFKA}<", f"<kafka>{OLDER_KAFKA}<")

    def _pin(self, image: str, newer: str, older: str, lock: str) -> None:
        pins = Path(__file__).with_name("older") / f"{image}-{older}.lock"
        (self.folder / "service_images" / image / lock).write_bytes(pins.read_bytes())
        _replace(self.lock, f"{image}: {{version: {newer},", f"{image}: {{version: {older},")

    def up(self) -> None:
        """Make it so."""
        self.forge("up", "-s", STACK)


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new))


def configuration() -> dict[str, Any]:
    """The smallest environment with servers that keep data, and three brokers."""
    small = {"cpu": "20m", "memory": "192Mi"}
    return {
        "environment": "local",
        "owner": "the drill",
        "cluster": {"kind": "local", "namespace": NAMESPACE},
        "images": {"source": "local-build"},
        "gateway": {"hosts": ["localhost"], "port": 8448, "resources": small},
        "models": [{"name": "demo", "resources": small}],
        "services": {"router": {"resources": small}},
        "data": {
            "destroyData": True,
            "nats": {"replicas": 1, "storage": "256Mi", "resources": {"cpu": "20m", "memory": "64Mi"}},
            "kafka": {
                "replicas": 3,
                "storage": "512Mi",
                "partitions": 3,
                "resources": {"cpu": "50m", "memory": "640Mi"},
            },
            "postgres": {"storage": "512Mi", "resources": {"cpu": "50m", "memory": "192Mi"}},
            "cache": {"persistence": "always", "storage": "128Mi", "resources": {"cpu": "20m", "memory": "64Mi"}},
        },
    }


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Release]:
    """The release before, running. Files that lead to the local environment and its images are put back in the end."""
    led = (local_environment.authority_file(), local_environment.key_file(), pipeline.index_file())
    access = {file: file.read_bytes() for file in led}
    made = Release(tmp_path_factory.mktemp("older"), older=True)
    try:
        made.up()
        yield made
    finally:
        made.forge("destroy", "-s", STACK, check=False)
        for file, content in access.items():
            paths.write_private(file, content)
    names = {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}
    assert NAMESPACE not in names


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release(tmp_path_factory.mktemp("newer"), older=False)


@pytest.fixture(scope="module")
def inside(older: Release) -> Iterator[DataClient]:
    """A pod in the drill's environment that has every login."""
    data = PlatformConfig.model_validate(configuration()).data
    with data_client(sorted(login_systems(data)), NAMESPACE) as made:
        yield made


def brokers(inside: DataClient) -> set[str]:
    """Versions of Kafka that the three brokers run."""
    find = "echo /opt/kafka/libs/kafka_2.13-*.jar"
    shown = [inside.kubectl("exec", f"kafka-{number}", "--", "sh", "-c", find).stdout.strip() for number in range(3)]
    return {text.rsplit("-", 1)[1].removesuffix(".jar") for text in shown}


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
"""Vectors with an index, written when they are not there; the version that answers, and the nearest."""


def vectors(inside: DataClient, version: str, run: str) -> None:
    """They are found, by a server of this version."""
    assert inside.run(VECTORS, run=run) == {"version": version, "near": [42, 41, 43]}


class Server:
    """NATS in the drill's environment, as a client sees it."""

    def __init__(self, api: client.ApiClient) -> None:
        core: Any = client.CoreV1Api(api)
        self._address = core.read_namespaced_pod("nats-0", NAMESPACE).status.pod_ip
        secret = core.read_namespaced_secret("login-nats", NAMESPACE).data["nats"]
        self._password = base64.b64decode(secret).decode()

    @property
    def version(self) -> str:
        """What it says of itself."""
        return httpx.get(f"http://{self._address}:8222/varz", trust_env=False).json()["version"]

    def with_bucket(self, work: Callable[[KeyValue], Awaitable[Found]]) -> Found:
        """Work with the bucket that the platform's own check made."""

        async def run() -> Found:
            connection = await nats.connect(f"nats://{self._address}:4222", user="nats", password=self._password)
            try:
                return await work(await connection.jetstream().key_value(BUCKET))
            finally:
                await connection.close()

        return asyncio.run(run())

    def keep(self, prefix: str, count: int = 300) -> None:
        """Values, each acknowledged."""

        async def put(bucket: KeyValue) -> None:
            for number in range(count):
                await bucket.put(f"{prefix}.{number}", str(number).encode())

        self.with_bucket(put)

    def missing(self, prefix: str, count: int = 300) -> list[int]:
        """Which of them are not there as they were written."""

        async def look(bucket: KeyValue) -> list[int]:
            found = [(n, (await bucket.get(f"{prefix}.{n}")).value) for n in range(count)]
            return [number for number, value in found if value != str(number).encode()]

        return self.with_bucket(look)


def test_parts_go_up_a_version_and_back_and_keep_their_data(
    older: Release, newer: Release, api: client.ApiClient, inside: DataClient, unique_name: str
) -> None:
    """NATS and PostgreSQL keep what they have; three brokers take every event, one of them away at a time."""
    rows, near = f"{unique_name}-rows", f"{unique_name}-near"
    first = Server(api)
    assert first.version == OLDER and brokers(inside) == {OLDER_KAFKA}
    first.keep("older")
    vectors(inside, OLDER_POSTGRES, near)
    with writing(inside, EVENTS, unique_name) as load, writing(inside, ROWS, rows) as written:
        newer.up()
        vectors(inside, NEWER_POSTGRES, near)
        second = Server(api)
        assert second.version == NEWER and brokers(inside) == {NEWER_KAFKA}
        assert second.missing("older") == []
        second.keep("newer")
        older.up()
    third = Server(api)
    assert third.version == OLDER and brokers(inside) == {OLDER_KAFKA}
    assert third.missing("older") == [] and third.missing("newer") == []
    vectors(inside, OLDER_POSTGRES, near)
    assert len(written.result["taken"]) > 1000
    assert set(written.result["taken"]) <= set(inside.run(ROWS_READ, run=rows)["rows"])
    assert written.result["longest silence, s"] <= 60
    told = load.result
    there = inside.run(EVENTS_READ, run=unique_name, count=len(told["taken"]), seconds=150)
    assert len(told["taken"]) > 1000
    assert set(told["taken"]) <= set(there)
    assert told["refused"] == []
    assert told["fewest in sync"] == 2, "one broker at a time, and the next only when it is back in sync"
    assert told["longest silence, s"] <= 60


def test_each_broker_has_found_the_zone_of_its_node(inside: DataClient) -> None:
    found = [inside.kubectl("exec", f"kafka-{number}", "--", "cat", "/tmp/zone").stdout for number in range(3)]
    assert found == ["local"] * 3


def test_what_the_move_means_is_said_before(older: Release, newer: Release) -> None:
    said = newer.forge("upgrade-check", "-s", STACK).stdout
    assert f"| image nats | safe | {OLDER} -> {NEWER} |" in said
    assert f"| image kafka | safe | {OLDER_KAFKA} -> {NEWER_KAFKA} |" in said
    assert f"| image postgres | safe | {OLDER_POSTGRES}.0 -> {NEWER_POSTGRES}.0 |" in said


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


def test_a_volume_that_would_shrink_is_refused_and_nothing_changes(older: Release, api: client.ApiClient) -> None:
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="128Mi"))
    refused = older.forge("up", "-s", STACK, check=False)
    older.edit(STACK, lambda config: config["data"]["nats"].update(storage="1Gi"))
    assert refused.returncode == 1 and "cannot shrink" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert Server(api).version == OLDER


def test_the_release_that_is_drilled_is_this_one() -> None:
    pins = (paths.PROJECT / "components/versions.lock.yaml").read_text()
    newer = {"nats": NEWER, "kafka": NEWER_KAFKA, "postgres": f"{NEWER_POSTGRES}.0"}
    assert [name for name, version in newer.items() if f"{name}: {{version: {version}," not in pins] == []
