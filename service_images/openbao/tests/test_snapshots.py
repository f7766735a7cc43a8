"""Snapshots of the secret store, with the real store and the real object store."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from bao_server import Store, until
from minio import Minio

from components.security import store_rights
from local.toolchain import builder
from local.toolchain.tools import ToolName
from service_images.ports import free_port

TASKS = Path(__file__).resolve().parents[2] / "data-tasks" / "src"
BUCKET, LOGIN, OWNER = "secret-store-snapshots", "secret-store-snapshots", "objects"


@dataclass
class Snapshots:
    """The task, as its pod runs it."""

    store: Store
    folder: Path
    endpoint: str
    passwords: dict[str, str]

    def objects(self, login: str = LOGIN) -> Minio:
        return Minio(
            self.endpoint.removeprefix("http://"),
            access_key=login,
            secret_key=self.passwords[login],
            secure=False,
            region="us-east-1",
        )

    def names(self) -> list[str]:
        found = [str(one.object_name) for one in self.objects().list_objects(BUCKET)]
        return sorted(name for name in found if name.endswith(".snap"))

    def run(self, system: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One task; the program's fixed folders are replaced by this test's."""
        self.store.cluster.project(self.folder / "tokens", LOGIN, store_rights.AUDIENCE)
        program = (
            "import sys, pathlib; from tasks import __main__, common; common.PATIENCE_S = 10;"
            f"common.CREDENTIALS = pathlib.Path({str(self.folder / 'credentials')!r});"
            "from tasks import snapshots;"
            f"snapshots._TOKENS = pathlib.Path({str(self.folder / 'tokens')!r});"
            f"raise SystemExit(__main__.main([{system!r}]))"
        )
        wanted = {"buckets": {BUCKET: LOGIN}, "bucket": BUCKET, "keep_days": 7}
        return subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=200,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(TASKS),
                "ENDPOINT": self.endpoint,
                "PROVISION": json.dumps(wanted),
                "STORE_ADDRESS": self.store.url,
                "STORE_AUTHORITY": (self.store.cluster.folder / "ca.crt").read_text(),
                **environment,
            },
        )

    def take(self) -> str:
        done = self.run("snapshots")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def restore(self, name: str = "") -> subprocess.CompletedProcess[str]:
        token = self.folder / "operator"
        token.write_text(self.store.cluster.token("secret-store-operator", store_rights.AUDIENCE))
        return self.run("snapshots", ACTION="restore", NAME=name, OPERATOR_TOKEN=str(token))


@pytest.fixture(scope="module")
def servers(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshots]:
    """A configured secret store, and an object store with the bucket."""
    port, folder = free_port(), tmp_path_factory.mktemp("snapshots")
    passwords = {login: secrets.token_hex(20) for login in (LOGIN, OWNER)}
    for login, password in passwords.items():
        (folder / "credentials" / login).mkdir(parents=True)
        (folder / "credentials" / login / "objects").write_text(password)
    for name in ("accounts", "buckets"):
        (folder / name).mkdir()
    root = ["--access", OWNER, "--secret-file", str(folder / "credentials" / OWNER / "objects")]
    flags = ["--port", f"127.0.0.1:{port}", "--health", "/healthz", "--quiet", "--iam-dir", str(folder / "accounts")]
    server = subprocess.Popen(
        [str(builder.resolve(ToolName.OBJECT_STORE)), *root, *flags, str(folder / "buckets")],
        env={"HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    made = Snapshots(shared_store, folder, f"http://127.0.0.1:{port}", passwords)
    try:
        until(lambda: _answers(f"{made.endpoint}/healthz"))
        done = made.run("objects")
        assert done.returncode == 0, done.stdout + done.stderr
        yield made
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def snapshots(servers: Snapshots) -> Snapshots:
    """No snapshot yet, and a secret in the store, which a test before may have stopped."""
    store = servers.store
    if not store.running:
        store.start()
    until(store.settled, why=lambda: store.log() + store.log("keep"))
    for name in servers.names():
        servers.objects().remove_object(BUCKET, name)
    put(store, "first")
    return servers


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def put(store: Store, value: str) -> None:
    operator = store.client("secret-store-operator", store_rights.OPERATOR)
    operator.write("kv/data/billing/provider", {"data": {"key": value}})


def got(store: Store) -> str:
    found = store.client("billing").read("kv/data/billing/provider")
    assert found is not None
    return found["data"]["key"]


def test_a_restore_brings_back_what_the_store_had(snapshots: Snapshots) -> None:
    assert "saved" in snapshots.take()
    (name,) = snapshots.names()
    put(snapshots.store, "second")
    done = snapshots.restore(name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"restored {name}" in done.stdout
    until(lambda: snapshots.store.settled() and got(snapshots.store) == "first")


def test_a_store_that_lost_its_volume_gets_its_content_back_with_the_same_unseal_key(snapshots: Snapshots) -> None:
    snapshots.take()
    store = snapshots.store
    store.kill()
    assert (store.folder / "seal" / "key").exists()
    for file in sorted((store.folder / "data").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    store.start()
    until(store.settled, why=lambda: store.log() + store.log("keep"))
    done = snapshots.restore()
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: store.settled() and got(store) == "first", why=lambda: store.log() + store.log("keep"))


def test_expired_snapshots_are_deleted_but_never_the_newest_three(snapshots: Snapshots) -> None:
    snapshots.take()
    (fresh,) = snapshots.names()
    content = snapshots.objects().get_object(BUCKET, fresh).read()

    def named(days: float) -> str:
        return f"{datetime.now(UTC) - timedelta(days=days):%Y%m%dT%H%M%SZ}.snap"

    old, kept = [named(30), named(9)], [named(8)]  # the newest three: the one of 8 days, the first, and the next
    for name in (*old, *kept, "of-somebody-else"):
        snapshots.objects().put_object(BUCKET, name, io.BytesIO(content), len(content))
    until(lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.snap" > fresh)
    snapshots.take()
    there = snapshots.names()
    assert there[:-1] == [*kept, fresh]
    assert "of-somebody-else" in {one.object_name for one in snapshots.objects().list_objects(BUCKET)}


@pytest.mark.parametrize("damage", ["cut", "changed", "text"])
def test_a_damaged_snapshot_is_not_restored(snapshots: Snapshots, damage: str) -> None:
    snapshots.take()
    (name,) = snapshots.names()
    content = snapshots.objects().get_object(BUCKET, name).read()
    middle = len(content) // 2
    broken = {
        "cut": content[:middle],
        "changed": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "text": b"this is no archive",
    }[damage]
    snapshots.objects().put_object(BUCKET, name, io.BytesIO(broken), len(broken))
    put(snapshots.store, "second")
    done = snapshots.restore(name)
    assert done.returncode == 1
    assert f"snapshot {name} is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert got(snapshots.store) == "second"


def test_an_unknown_name_is_answered_with_the_names_that_there_are(snapshots: Snapshots) -> None:
    snapshots.take()
    (name,) = snapshots.names()
    done = snapshots.restore("20200101T000000Z.snap")
    assert done.returncode == 1
    assert f"there is no snapshot 20200101T000000Z.snap; there are: {name}" in done.stderr


def test_the_schedule_cannot_restore_and_no_service_can_take_a_snapshot(snapshots: Snapshots) -> None:
    store = snapshots.store
    own = store.client(LOGIN, store_rights.SNAPSHOTS)
    with pytest.raises(Exception, match="403"):
        own.ask("POST", "sys/storage/raft/snapshot", {})
    with pytest.raises(Exception, match="403"):
        store.client("billing").ask("GET", "sys/storage/raft/snapshot")


def test_a_store_that_is_away_leaves_no_object(snapshots: Snapshots) -> None:
    snapshots.store.kill()
    done = snapshots.run("snapshots")
    assert done.returncode == 1
    assert "the secret store cannot be used; gave up after 10 s: the secret store does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert snapshots.names() == []


def test_a_standby_names_the_active_server(servers: Snapshots, three: list[Store]) -> None:
    for one in reversed(three):
        one.start()
    until(three[0].settled, 120, three[0].log)
    until(lambda: all("secret_store_sealed 0" in one.metrics() for one in three), 120)
    (standby, *_) = (one for one in three if "secret_store_active 1" not in one.metrics())
    put(three[0], "first")
    asked = dataclasses.replace(servers, store=standby)
    asked.take()
    put(three[0], "second")
    done = asked.restore()
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: got(three[0]) == "first", why=three[0].log)
