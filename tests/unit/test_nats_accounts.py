"""NATS accounts, tested on a real server with the services' own code as clients."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError

from components.config.data import Nats
from components.data.nats import OWNER, configuration
from components.data.nats_accounts import PLATFORM, accounts, permissions
from components.data.nats_inputs import NatsAccount
from components.data.needs import nats_account
from components.services.registry import SERVICES as RECORDS

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
sys.path[:0] = [str(SOURCES.parent), str(SOURCES / "kit" / "src"), str(SOURCES / "data-tasks" / "src")]

from kit.bus import Bus, options  # noqa: E402
from kit.following import Following  # noqa: E402
from kit.in_force import InForce  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402

from service_images.conftest import NatsServer  # noqa: E402
from service_images.ports import free_port  # noqa: E402

SERVICES = {name: NatsAccount(**nats_account(record)) for name, record in RECORDS.items()}
BUCKETS = sorted({bucket for account in SERVICES.values() for bucket in (*account.keeps, *account.follows)})
KEEPERS = [(service, bucket) for service, intent in SERVICES.items() for bucket in intent.keeps]
FOLLOWERS = [(service, bucket) for service, intent in SERVICES.items() for bucket in intent.follows]
REPORTERS = [*((s, b) for s, b in FOLLOWERS if b in {kept for _, kept in KEEPERS}), ("router", "router")]
USERS = sorted({service for service, _ in KEEPERS + FOLLOWERS})


class Server(NatsServer):
    """NATS with the platform's configuration; `permitted`: whether users also have permissions within their account."""

    def __init__(self, folder: Path, intents: Mapping[str, NatsAccount] = SERVICES, permitted: bool = True) -> None:
        self.passwords = {login: f"of-{login}" for login in (*intents, OWNER)}
        known = {**dict.fromkeys(SERVICES, ""), **self.passwords}
        settings = json.loads(configuration(Nats(replicas=1), "nats", "space", known, SERVICES))
        settings["accounts"] = accounts(OWNER, self.passwords, intents)
        settings["jetstream"]["store_dir"] = str(folder)
        del settings["http"]
        for account in settings["accounts"].values() if not permitted else ():
            account["users"][0].pop("permissions", None)
        super().__init__(folder, settings)

    def settings(self, service: str) -> ServiceSettings:
        """Settings of a service."""
        return ServiceSettings(name=service, nats_url=self.url, nats_password=self.passwords[service])  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("nats")
    running = Server(folder)
    credentials = folder / "credentials" / OWNER
    credentials.mkdir(parents=True)
    (credentials / "nats").write_text(running.passwords[OWNER])
    script = (
        "import pathlib, tasks.common, tasks.nats;"
        f"tasks.common.CREDENTIALS = pathlib.Path({str(folder / 'credentials')!r});"
        "tasks.nats.main()"
    )
    asked = json.dumps({"replicas": 1, "buckets": BUCKETS})
    received = {"ENDPOINT": running.url, "PROVISION": asked, "PYTHONPATH": str(SOURCES / "data-tasks" / "src")}
    subprocess.run([sys.executable, "-c", script], env={**os.environ, **received}, check=True, timeout=60)
    yield running
    running.kill()


async def _quiet(_: Exception) -> None:
    """Ignore expected refusals."""


async def _through(connection: Client, inbox: str) -> None:
    """Wait until the server has processed all sent messages, since `flush` of nats-py does not."""
    back = await connection.subscribe(inbox)
    await connection.publish(inbox, b"")
    await back.next_msg(10)
    await back.unsubscribe()


async def _received(server: Server, service: str, bucket: str, key: str) -> bytes | None:
    """Value of a key that a follower receives within 5 s; None if there is none."""
    found: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def take(name: str, value: bytes | None) -> None:
        if name == key and not found.done():
            found.set_result(value)

    task = asyncio.create_task(Following(server.url, bucket, take, options(server.settings(service))).run())
    try:
        return await asyncio.wait_for(found, 5)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _put(server: Server, login: str, bucket: str, key: str, value: bytes) -> None:
    """Connect as a service, or as the platform itself."""
    if login != OWNER:
        bus = Bus(server.settings(login))
        try:
            return await bus.put(bucket, key, value)
        finally:
            await bus.close()
    connection = await nats.connect(server.url, user=OWNER, password=server.passwords[OWNER])
    await (await connection.jetstream().key_value(bucket)).put(key, value)
    await connection.close()


@pytest.mark.parametrize(("service", "bucket"), FOLLOWERS)
def test_followers_of_a_bucket_receive_its_owners_values(server: Server, service: str, bucket: str) -> None:
    keeper = next((keeper for keeper, kept in KEEPERS if kept == bucket), OWNER)

    async def run() -> bytes | None:
        await _put(server, keeper, bucket, f"for-{service}", b"told")
        return await _received(server, service, bucket, f"for-{service}")

    assert asyncio.run(run()) == b"told"


@pytest.mark.parametrize(("service", "bucket"), REPORTERS)
def test_the_owner_of_a_bucket_knows_the_revisions_of_followers(server: Server, service: str, bucket: str) -> None:
    keeper = next(keeper for keeper, kept in KEEPERS if kept == bucket)

    async def run() -> list[str]:
        bus = Bus(server.settings(keeper))
        in_force = InForce(bus, bucket)
        await bus.put(bucket, "applied", b"1")
        login = options(server.settings(service))
        parts = (in_force, Following(server.url, bucket, lambda _key, _value: None, login))
        tasks = [asyncio.create_task(part.run()) for part in parts]
        try:
            deadline = time.monotonic() + 20
            while True:
                _, found = await in_force.of(bucket, "applied")
                if found is not None and found.everywhere:
                    return [one for one, _ in in_force.reports(bucket)]
                assert time.monotonic() < deadline, found
                await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await bus.close()

    assert asyncio.run(run()) == [service]


@pytest.mark.parametrize("service", USERS)
def test_no_service_can_report_for_another(service: str) -> None:
    allowed: Any = permissions(SERVICES[service])
    reported = {s for s in allowed["publish"]["allow"] if s.startswith("in_force.")}
    assert all(s.endswith(f".{service}") for s in reported)


@pytest.mark.parametrize(("service", "bucket"), KEEPERS)
def test_the_owner_of_a_bucket_can_list_its_keys(server: Server, service: str, bucket: str) -> None:
    async def run() -> list[str]:
        await _put(server, service, bucket, "known", b"1")
        bus = Bus(server.settings(service))
        try:
            return await bus.keys(bucket)
        finally:
            await bus.close()

    assert "known" in asyncio.run(run())


@pytest.mark.parametrize("service", USERS)
def test_only_its_owner_writes_a_bucket(server: Server, service: str) -> None:
    others = [bucket for bucket in BUCKETS if bucket not in SERVICES[service].keeps]

    async def run() -> dict[str, bytes]:
        owner = await nats.connect(server.url, user=OWNER, password=server.passwords[OWNER])
        client = await nats.connect(server.url, user=service, password=server.passwords[service], error_cb=_quiet)
        kept: dict[str, bytes] = {}
        for bucket in others:
            store = await owner.jetstream().key_value(bucket)
            await store.put("owned", b"before")
            await client.publish(f"$KV.{bucket}.owned", b"changed")
            await _through(client, f"_INBOX.{service}.through")
            kept[bucket] = (await store.get("owned")).value or b""
        await client.close()
        await owner.close()
        return kept

    assert set(asyncio.run(run()).values()) == {b"before"}


@pytest.fixture
def loose(tmp_path: Path) -> Iterator[Server]:
    """Two services that exchange messages and one that does not, isolated by accounts only."""
    intents = {
        "one": NatsAccount(name="one", sends=["one.said"], keeps=["bucket"]),
        "two": NatsAccount(name="two", hears=["one.said"], follows=["bucket"]),
        "other": NatsAccount(name="other"),
    }
    running = Server(tmp_path, intents, permitted=False)
    yield running
    running.kill()


def heard(server: Server, by: str, sender: str, *subjects: str) -> list[str]:
    """Subjects of another user's messages that a listener to all subjects receives."""

    async def run() -> list[str]:
        listener = await nats.connect(server.url, user=by, password=server.passwords[by])
        speaker = await nats.connect(server.url, user=sender, password=server.passwords[sender])
        found = await listener.subscribe(">")
        await listener.publish("begin", b"")
        assert (await found.next_msg(10)).subject == "begin"
        for subject in subjects:
            await speaker.publish(subject, b"x")
        await _through(speaker, "through")
        await listener.publish("end", b"")  # arrives after all earlier messages
        received: list[str] = []
        while (message := await found.next_msg(10)).subject != "end":
            received.append(message.subject)
        await listener.close()
        await speaker.close()
        return received

    return asyncio.run(run())


def test_an_imported_subject_gives_access_to_that_subject_only(loose: Server) -> None:
    assert heard(loose, "two", "one", "one.said", "one.kept.to.itself") == ["one.said"]


@pytest.mark.parametrize(("by", "sender"), [("other", "one"), ("other", OWNER), ("one", "two"), ("two", "other")])
def test_no_other_user_receives_it(loose: Server, by: str, sender: str) -> None:
    assert heard(loose, by, sender, "one.said", "$KV.bucket.key", "_INBOX.one.x", "_INBOX.two.x") == []


def test_streams_cannot_be_named_from_an_account_without_a_bucket(loose: Server) -> None:
    async def run() -> Any:
        connection = await nats.connect(loose.url, user="other", password=loose.passwords["other"])
        try:
            return await connection.request("$JS.API.STREAM.NAMES", b"", timeout=2)
        finally:
            await connection.close()

    with pytest.raises((NatsError, TimeoutError)):
        asyncio.run(run())


def test_who_does_not_know_the_servers_login_cannot_join_them(tmp_path: Path) -> None:
    passwords = {login: f"of-{login}" for login in (*SERVICES, OWNER)}
    text = configuration(Nats(replicas=3), "nats", "space", passwords, SERVICES)
    settings = json.loads(text.replace("$HOSTNAME", '"one"'))
    del settings["http"], settings["jetstream"]
    settings["cluster"] |= {"port": free_port(), "routes": []}
    joined = NatsServer(tmp_path, settings)

    def joins(login: dict[str, str]) -> bool:
        """Whether the server answers somebody who presents himself as another server."""
        address = ("127.0.0.1", settings["cluster"]["port"])
        with socket.create_connection(address, timeout=10) as connection, connection.makefile("rwb") as file:
            info = json.loads(file.readline().removeprefix(b"INFO "))
            assert info["auth_required"]
            server = {"name": "two", "server_id": "two", "cluster": "platform", "headers": True, **login}
            with suppress(ConnectionError):
                file.write(b"CONNECT " + json.dumps(server).encode() + b"\r\nPING\r\n")
                file.flush()
                return any(line.startswith(b"PONG") for line in file)
        return False

    try:
        assert not joins({})
        assert not joins({"user": "routes", "pass": "guessed"})
        assert joins({"user": "routes", "pass": passwords[OWNER]})
    finally:
        joined.kill()


def test_every_service_has_an_account_and_shares_with_those_alone_that_the_intents_name() -> None:
    made = accounts(OWNER, dict.fromkeys([*SERVICES, OWNER], "x"), SERVICES)
    assert set(made) == {PLATFORM, *(service.upper() for service in SERVICES)}
    assert [list(account) for name, account in made.items() if "jetstream" in account] == [list(made[PLATFORM])]
    exported = list(itertools.chain.from_iterable(account.get("exports", []) for account in made.values()))
    assert all(export["accounts"] for export in exported), "an export without accounts is everybody's"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_may_write_its_own_key_buckets_alone(service: str) -> None:
    allowed: Any = permissions(SERVICES[service])
    written = {s for s in allowed["publish"]["allow"] if s.startswith("$KV.")}
    assert written == {f"$KV.{bucket}.>" for bucket in SERVICES[service].keeps}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_a_service_listens_to_no_inbox_but_its_own(service: str) -> None:
    allowed: Any = permissions(SERVICES[service])
    inboxes = [s for s in allowed["subscribe"]["allow"] if s.startswith("_INBOX")]
    assert inboxes == [f"_INBOX.{service}.>"]
    assert ">" not in allowed["subscribe"]["allow"]
