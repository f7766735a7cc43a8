"""Audit's keys in a real OpenBao, with a real PostgreSQL: signatures, tenants' keys, move, rotation, destruction."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from bao_server import Store, until
from baonode import key_rotation
from baonode.client import Refused
from kit import migrate
from kit.database import Database
from kit.ledger import note
from starlette.testclient import TestClient

from components.security import store_rights
from service_images.conftest import SOURCES

sys.path[:0] = [str(SOURCES / "audit" / "src"), str(SOURCES / "audit" / "tests")]
from audit import moving, verify  # noqa: E402
from audit.__main__ import AuditSettings, Log, create  # noqa: E402
from audit.moving import Moving  # noqa: E402
from audit_events import event  # noqa: E402

ENGINE = store_rights.family("audit", "sealing")
OWN = {"signing_secret": "sign", "sealing_secret": "seal"}
"""The installation's own secret, as an environment has it that is older than its store."""
EVENTS, KEY = "/v1/audit/events", "/v1/audit/key"
SECRET = "unforgettable"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The background task compares all the time."""
    monkeypatch.setattr(moving, "_EVERY_S", 0.2)
    monkeypatch.setattr(moving, "_SIGN_S", 0.1)


@dataclass
class Stand:
    """A store and a database."""

    store: Store
    folder: Path
    server: dict[str, Any]

    def settings(self, **more: Any) -> AuditSettings:
        """As in a pod with the store."""
        own = self.store.settings(self.folder, "audit")
        names = ("store_url", "store_authority", "tokens_folder")
        there = {name: getattr(own, name) for name in names}
        return AuditSettings(**{**self.server, **there, "move_after_seconds": 0, **more})

    @property
    def without(self) -> AuditSettings:
        """As in a pod without a store."""
        return AuditSettings(**self.server, **OWN)

    @contextmanager
    def audit(self, settings: AuditSettings | None = None) -> Iterator[httpx.Client]:
        """A running replica."""
        with TestClient(create(settings or self.settings()), raise_server_exceptions=False) as client:
            until(lambda: client.get("/readyz").status_code == 200)
            yield client

    def ask(self, query: str, *values: Any) -> list[Any]:
        """Rows of the database."""
        with psycopg.connect(self.without.database(pooled=False), autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def moved(self) -> bool:
        """Whether no key needs the installation's own secret."""
        return self.ask("SELECT count(*) FROM keys WHERE sealed IS NOT NULL") == [(0,)] and self.signers() > 1

    def signers(self) -> int:
        """Number of listed keys."""
        return self.ask("SELECT count(*) FROM signers")[0][0]

    def names(self) -> set[str]:
        """Names of the tenants' keys in the store."""
        return set(self.store.client("audit").names(f"{ENGINE}/keys"))


@pytest.fixture
def stand(shared_store: Store, tmp_path: Path, service_database: Callable[[str], dict[str, Any]]) -> Stand:
    made = Stand(shared_store, tmp_path, service_database("audit"))
    migrate.migrate("audit", made.without.database(pooled=False))
    return made


def write(client: httpx.Client, *tenants: str) -> list[int]:
    """An event of each tenant, with a secret."""
    events = [event(tenant, data={"tenant": tenant, "secret": f"{SECRET} of {tenant}"}) for tenant in tenants]
    answer = client.post(EVENTS, json=events)
    assert answer.status_code == 201, answer.text
    return answer.json()["numbers"]


def read(client: httpx.Client, tenant: str) -> str:
    answer = client.get(EVENTS, params={"tenant": tenant})
    assert answer.status_code == 200, answer.text
    return answer.text


def export(client: httpx.Client, tenant: str) -> list[str]:
    return client.get(f"/v1/audit/tenants/{tenant}/export").text.split("\n")[:-1]


def size_of(client: httpx.Client) -> int:
    """Size of the newest checkpoint, which the published keys verify."""
    text, key = client.get("/v1/audit/checkpoint"), client.get(KEY).text
    return note.verify(text.text, key).size if text.status_code == 200 else 0


def test_a_new_environment_has_all_keys_in_the_store(stand: Stand) -> None:
    with stand.audit() as audit:
        write(audit, "acme", "other")
        until(lambda: size_of(audit) == 2)
        (key,) = audit.get(KEY).text.splitlines()
        newest = stand.store.client("audit").read("transit/keys/audit.signing")["keys"]  # type: ignore[index]
        assert note.public(key) == base64.b64decode(newest[max(newest, key=int)]["public_key"])
        assert verify.export(export(audit, "acme"), key).statement.count == 1
        assert stand.ask("SELECT count(*) FROM keys WHERE sealed IS NOT NULL") == [(0,)]
    with stand.audit() as another:
        assert SECRET in read(another, "acme")
    for tenant, name in stand.ask("SELECT tenant, name FROM keys"):
        assert name in stand.names() and (not tenant or tenant not in name)


def test_no_backup_of_the_database_brings_a_shredded_tenant_back(stand: Stand) -> None:
    with stand.audit() as audit, stand.audit() as another:
        write(audit, "gone", "stays")
        assert SECRET in read(another, "gone")
        backup = stand.ask("SELECT tenant, name, wrapped FROM keys WHERE tenant = 'gone'")[0]
        content = stand.ask("SELECT number, content FROM entries WHERE tenant = 'gone'")
        assert audit.post("/v1/audit/tenants/gone/shred").json()["destroyed"] is True
        assert backup[1] not in stand.names()
        for replica in (audit, another):
            assert SECRET not in read(replica, "gone")
            assert SECRET in read(replica, "stays")
    # Restore the tenant's rows, as a backup has them.
    with psycopg.connect(stand.without.database(pooled=False), autocommit=True) as connection:
        connection.execute("UPDATE keys SET wrapped = %s, shredded = NULL WHERE tenant = 'gone'", (backup[2],))
        connection.execute("ALTER TABLE entries DISABLE TRIGGER kept")
        for number, sealed in content:
            connection.execute("UPDATE entries SET content = %s WHERE number = %s", (sealed, number))
    with stand.audit(stand.settings(**OWN)) as restored:
        (shown,) = json.loads(read(restored, "gone"))["entries"]
        assert shown["shredded"] is True and "data" not in shown
        assert SECRET in read(restored, "stays")


def test_a_restored_snapshot_of_the_store_keeps_no_destroyed_key(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand.audit() as audit:
        write(audit, "gone", "stays")
        snapshot = asked(stand.store, "GET")
        audit.post("/v1/audit/tenants/gone/shred").raise_for_status()
        ((name,),) = stand.ask("SELECT name FROM keys WHERE tenant = 'gone'")
        assert name not in stand.names()
        asked(stand.store, "POST", snapshot)
        until(lambda: name in stand.names(), why=stand.store.log)
        monkeypatch.setattr(moving, "_SWEEP_S", 0.0)
        with stand.audit() as another:
            until(lambda: name not in stand.names())
            assert SECRET in read(another, "stays")
            assert write(another, "later") == [3]


def asked(store: Store, method: str, content: bytes = b"") -> bytes:
    """A snapshot of the store, or its restore."""
    headers = {"X-Vault-Token": store.operator()._token}
    with httpx.Client(verify=False, trust_env=False, timeout=60, headers=headers) as http:
        answer = http.request(method, f"{store.url}/v1/sys/storage/raft/snapshot", content=content or None)
    answer.raise_for_status()
    return answer.content


def test_an_environment_with_its_own_secret_moves_to_the_store(stand: Stand) -> None:
    with stand.audit(stand.without) as audit:
        write(audit, "acme", "gone", "other")
        old = audit.get("/v1/audit/checkpoint").text, audit.get(KEY).text, export(audit, "acme")
    with stand.audit(stand.settings(**OWN)) as audit:
        until(stand.moved)
        write(audit, "acme", "late")
        until(lambda: size_of(audit) == 5)
        keys = audit.get(KEY).text
        current, earlier = keys.splitlines()
        assert earlier == f"{old[1].strip()} 3"
        new = audit.get("/v1/audit/checkpoint").text
        assert (note.verify(old[0], keys).size, note.verify(new, keys).size) == (3, 5)
        for lines in (old[2], export(audit, "acme")):
            assert verify.export(lines, keys).statement.tenant == "acme"
        with pytest.raises(note.NoteError):
            note.verify(new, old[1])
        # Who learns the earlier secret later cannot sign a longer log.
        seeded = Log.of(stand.without, Database(stand.without)).signing
        forged = seeded.sign_own(new.partition("\n\n")[0] + "\n")
        assert note.verify(forged, old[1]).size == 5
        with pytest.raises(note.NoteError, match="replaced at 3 entries"):
            note.verify(forged, keys)
        audit.post("/v1/audit/tenants/gone/shred").raise_for_status()
    with stand.audit() as audit:  # without the earlier secret
        assert SECRET in read(audit, "acme") and SECRET in read(audit, "late")
        assert SECRET not in read(audit, "gone")
        assert audit.get(KEY).text.splitlines() == [current, earlier]


def test_until_the_move_is_over_replicas_of_the_release_before_read_and_write(stand: Stand) -> None:
    with stand.audit(stand.without) as old:
        write(old, "acme")
        with stand.audit(stand.settings(move_after_seconds=3600, **OWN)) as new:
            until(lambda: stand.ask("SELECT count(*) FROM keys WHERE wrapped IS NOT NULL")[0][0] >= 1)
            for number, (replica, tenant) in enumerate([(new, "fresh"), (old, "fresh"), (old, "acme"), (new, "acme")]):
                assert write(replica, tenant) == [number + 1]
                assert note.verify(replica.get("/v1/audit/checkpoint").text, old.get(KEY).text).size == number + 2
            for replica in (old, new):
                assert read(replica, "fresh").count(SECRET) == 2 and read(replica, "acme").count(SECRET) == 3


def test_a_move_that_is_killed_again_and_again_ends_with_all_keys_in_the_store(stand: Stand) -> None:
    tenants = [f"tenant-{number}" for number in range(40)]
    with stand.audit(stand.without) as audit:
        write(audit, *tenants)
    settings, chance = stand.settings(**OWN), random.Random(21)
    there = {name: getattr(settings, name) for name in ("store_url", "store_authority", "tokens_folder")}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(SOURCES / name / "src") for name in ("kit", "audit")),
        **{f"SERVICE_{name}".upper(): str(value) for name, value in {**stand.server, **OWN, **there}.items()},
        "SERVICE_MOVE_AFTER_SECONDS": "0",
    }
    done = list[int]()
    counted = "SELECT count(wrapped) FROM keys"
    with psycopg.connect(stand.without.database(pooled=False), autocommit=True) as connection:
        for wanted in (0, 0, 1, 5, 12, 25):
            process = subprocess.Popen([sys.executable, "-c", _MOVES], env=environment, stdout=subprocess.PIPE)
            assert process.stdout is not None and process.stdout.readline() == b"begins\n"
            deadline = time.monotonic() + 60
            while (found := connection.execute(counted).fetchone()) and found[0] < wanted:
                assert time.monotonic() < deadline
            time.sleep(chance.uniform(0, 0.02))  # random time of the kill, not a wait for a condition
            process.kill()
            process.wait(10)
            done.append(stand.ask(counted)[0][0])
    assert any(0 < count < len(tenants) for count in done), done
    with stand.audit(settings):
        until(stand.moved)
    with stand.audit() as audit:
        assert all(SECRET in read(audit, tenant) for tenant in tenants)


_MOVES = """
import asyncio
from audit.__main__ import AuditSettings, Log
from audit.moving import Moving
from kit.database import Database

async def move():
    settings = AuditSettings()
    log = Log.of(settings, Database(settings))
    await log.database.open()
    moving = Moving(log.database, log.ledger, log.keys, log.signing, log.transit, 0)
    async with log.database.transaction():
        print("begins", flush=True)
    while True:
        await moving.round()

asyncio.run(move())
"""


def test_without_the_store_known_tenants_are_served_and_new_ones_wait(stand: Stand) -> None:
    settings = stand.settings()
    with stand.audit(settings) as audit:
        write(audit, "acme")
        until(lambda: size_of(audit) == 1)
    with stand.audit(settings) as audit:
        # A replica gets all keys when it starts.
        until(lambda: "audit_keys_open 2" in audit.get("/metrics").text)
        try:
            asyncio.run(_waits(stand, settings, functools.partial(_served, audit)))
        finally:
            if "serve" not in stand.store.running:
                stand.store.start("serve")
        until(lambda: size_of(audit) == 4)
        assert read(audit, "new").count(SECRET) == 1
        assert verify.export(export(audit, "acme"), audit.get(KEY).text).statement.count == 3


def _served(audit: httpx.Client) -> None:
    """What a replica does without the store."""
    assert write(audit, "acme") == [1]
    assert read(audit, "acme").count(SECRET) == 2
    assert size_of(audit) == 1
    refused = audit.post(EVENTS, json=[event("new")])
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
    assert audit.get("/v1/audit/tenants/acme/export").status_code == 503
    until(lambda: "audit_checkpoint_waiting_seconds 0.0" not in audit.get("/metrics").text)
    assert audit.get("/readyz").status_code == 200


async def _waits(stand: Stand, settings: AuditSettings, meanwhile: Callable[[], None]) -> None:
    """Events from Kafka: those of a new tenant wait until the store is back, and the others do not."""
    log = Log.of(settings, Database(settings))
    await log.database.open()
    await log.ledger.prepared("acme")
    await asyncio.to_thread(stand.store.kill, "serve")
    await asyncio.to_thread(meanwhile)
    batch = [event(tenant, data={"tenant": tenant, "secret": SECRET}) for tenant in ("new", "acme")]
    taking = asyncio.create_task(log.ledger.append(batch, patient=True))
    counts = "SELECT count(*) FROM entries WHERE tenant = 'acme'"
    await asyncio.to_thread(until, lambda: stand.ask(counts) == [(3,)])
    assert not taking.done()
    assert stand.ask("SELECT count(*) FROM entries WHERE tenant = 'new'") == [(0,)]
    await asyncio.to_thread(stand.store.start, "serve")
    numbers = await asyncio.wait_for(taking, 60)
    assert sorted(numbers.values()) == [2, 3]
    await log.database.close()
    assert log.transit is not None
    await log.transit.close()


def test_a_rotation_changes_both_and_earlier_checkpoints_verify(stand: Stand) -> None:
    with stand.audit() as audit:
        write(audit, "acme", "other")
        until(lambda: size_of(audit) == 2)
        old, before = audit.get("/v1/audit/checkpoint").text, audit.get(KEY).text.strip()
        wrapped = dict(stand.ask("SELECT tenant, wrapped FROM keys"))
        operator = stand.store.operator()
        signing, sealing = key_rotation.rotate(operator, ["audit/signing"], ["audit/sealing"], 30)
        assert (signing.problem, sealing.problem, sealing.rotations) == ("", "", 1)
        assert not key_rotation.family_state(operator, "audit/sealing").problem
        assert signing.rotations >= 1 and signing.at and sealing.at
        until(lambda: audit.get(KEY).text.splitlines()[1:] == [f"{before} 2"])
        until(lambda: dict(stand.ask("SELECT tenant, rotation FROM keys")) == dict.fromkeys(wrapped, 1))
        for tenant, text in stand.ask("SELECT tenant, wrapped FROM keys"):
            assert text.startswith("vault:v2:") and wrapped[tenant].startswith("vault:v1:")
        write(audit, "acme")
        until(lambda: size_of(audit) == 3)
        keys = audit.get(KEY).text
        assert note.verify(old, keys).size == 2
        with pytest.raises(note.NoteError):
            note.verify(audit.get("/v1/audit/checkpoint").text, before)
    with stand.audit() as another:
        assert read(another, "acme").count(SECRET) == 2
        assert another.get(KEY).text == keys


def test_another_service_and_the_operator_cannot_use_the_keys(stand: Stand) -> None:
    with stand.audit() as audit:
        write(audit, "acme")
    ((name, wrapped),) = stand.ask("SELECT name, wrapped FROM keys WHERE tenant = 'acme'")
    about = base64.b64encode(b"acme").decode()
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"decrypt/{name}", {"ciphertext": wrapped, "associated_data": about}),
        ("POST", f"encrypt/{name}", {"plaintext": about}),
        ("POST", f"keys/{name}/config", {"deletion_allowed": True}),
        ("POST", f"keys/{name}/rotate", {}),
        ("POST", "keys/another", {}),
        ("DELETE", f"keys/{name}", {}),
        ("GET", f"export/encryption-key/{name}", {}),
        ("GET", f"backup/{name}", {}),
    ]
    for account, role in (("billing", "billing"), ("secret-store", store_rights.KEEPER), ("", store_rights.OPERATOR)):
        client = stand.store.client(account, role) if account else stand.store.operator()
        for method, path, body in requests:
            with pytest.raises(Refused) as refused:
                client.ask(method, f"{ENGINE}/{path}", body)
            assert refused.value.status == 403, (role, path)
    own = stand.store.client("audit")
    for path in (f"export/encryption-key/{name}", f"backup/{name}"):
        with pytest.raises(Refused) as refused:
            own.ask("GET", f"{ENGINE}/{path}")
        assert refused.value.status == 403
    assert "plaintext" in own.ask("POST", f"{ENGINE}/{requests[0][1]}", requests[0][2])["data"]


def test_a_shredding_without_the_store_is_finished_when_it_is_back(stand: Stand) -> None:
    with stand.audit() as audit:
        write(audit, "gone", "before")
        # The entry about a shredding belongs to the caller's tenant, whose key is needed, too.
        audit.post("/v1/audit/tenants/before/shred").raise_for_status()
        until(lambda: "audit_keys_open 3" in audit.get("/metrics").text)
        ((name,),) = stand.ask("SELECT name FROM keys WHERE tenant = 'gone'")
        stand.store.kill("serve")
        try:
            assert audit.post("/v1/audit/tenants/gone/shred").json()["destroyed"] is False
            assert SECRET not in read(audit, "gone")
        finally:
            stand.store.start("serve")
        until(lambda: name not in stand.names())
        until(lambda: stand.ask("SELECT destroyed IS NOT NULL FROM keys WHERE tenant = 'gone'") == [(True,)])


def test_keys_in_the_store_are_not_read_without_one(stand: Stand) -> None:
    with stand.audit() as audit:
        write(audit, "acme")
    with stand.audit(stand.without) as audit:
        assert audit.get(EVENTS, params={"tenant": "acme"}).status_code == 503
    with pytest.raises(RuntimeError, match="2 tenants are in the secret store"):
        migrate.migrate("audit", stand.without.database(pooled=False), "downgrade", "0005")


def test_a_round_of_comparisons_asks_little(stand: Stand) -> None:
    """Whatever the number of tenants, a comparison without differences asks the store twice."""

    async def compare() -> int:
        settings = stand.settings()
        log = Log.of(settings, Database(settings))
        assert log.transit is not None
        await log.database.open()
        task = Moving(log.database, log.ledger, log.keys, log.signing, log.transit, 0)
        await task.round()
        await task.round()
        before = sum(stand.store.log().count(text) for text in ('"type":"request"',))
        await task.round()
        found = stand.store.log().count('"type":"request"') - before
        await log.transit.close()
        await log.database.close()
        return found

    with stand.audit() as audit:
        write(audit, *(f"tenant-{number}" for number in range(20)))
    stand.store.kill("keep")
    try:
        assert asyncio.run(compare()) == 2
    finally:
        stand.store.start("keep")
