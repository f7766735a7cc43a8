"""Logins for NATS that pods register in a real OpenBao, with a real NATS and the process beside it, through the kit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import pytest
from bao_server import Store, until
from baonode import rotation
from baonode.client import Refused, Unreachable
from kit import bus, issued_login, nats_login
from kit.bus import Bus
from kit.following import Following
from kit.settings import ServiceSettings
from nats.errors import Error as NatsError

from components.config.data import Nats
from components.data import nats as nats_part
from components.data import nats_logins
from components.data.nats_inputs import NatsAccount
from components.data.needs import nats_account
from components.security import store_names
from components.services.registry import SERVICES
from service_images.conftest import SOURCES
from service_images.ports import free_port

OWNERS = [name for name, one in SERVICES.items() if one.speaks]
KEEPER, FOLLOWER, BUCKET = "user", "router", "tenants"
SECRETS = {f"{store_names.NATS}/{KEEPER}": 1, f"{store_names.NATS}/{FOLLOWER}": 1}
PASSWORD = "of-the-owner"
REGISTRY = store_names.registry(store_names.NATS)


@dataclass
class Stand:
    """A store, a NATS server and the process beside it, with this machine's ports and folders."""

    store: Store
    folder: Path
    port: int
    monitor: int
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict[str, subprocess.Popen[bytes]])

    def __post_init__(self) -> None:
        accounts = [NatsAccount(**nats_account(one)) for one in SERVICES.values() if one.speaks]
        owned = {one.name: one for one in accounts}
        text = nats_part.configuration(Nats(replicas=1), "nats", "platform", {nats_part.OWNER: PASSWORD}, owned)
        conf = json.loads(text)
        conf |= {"host": "127.0.0.1", "port": self.port, "http": f"127.0.0.1:{self.monitor}"}
        conf["jetstream"]["store_dir"] = str(self.folder / "data")
        (self.folder / "nats.conf").write_text(json.dumps(conf))
        (self.folder / "data").mkdir()
        (self.folder / nats_logins.DECLARED).write_text(nats_logins.declared(PASSWORD, accounts))

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self, *names: str) -> None:
        """Start the server, or the process beside it."""
        account = self.store.cluster.project(self.folder / "tokens", store_names.NATS, store_names.AUDIENCE)
        own = {
            "LOGINS_DECLARED": str(self.folder / nats_logins.DECLARED),
            "LOGINS_KEPT": str(self.folder / "data" / nats_logins.DECLARED),
            "NATS_MONITOR": f"http://127.0.0.1:{self.monitor}",
            "NATS_URL": self.url,
            "PYTHONPATH": os.pathsep.join(str(SOURCES / one / "src") for one in ("data-tasks", "kit")),
            "PYTHONUNBUFFERED": "1",
            "STORE_ADDRESS": self.store.url,
            "STORE_AUTHORITY_FILE": str(self.store.cluster.folder / "ca.crt"),
            "STORE_TOKEN": str(account),
        }
        commands = {
            "nats": [str(Path(sys.executable).with_name("nats-server")), "-c", str(self.folder / "nats.conf")],
            "logins": [sys.executable, "-m", "tasks", "nats_logins"],
        }
        for name in names or tuple(commands):
            log = (self.folder / f"{name}.log").open("ab")
            self.running[name] = subprocess.Popen(commands[name], env=os.environ | own, stdout=log, stderr=log)
        if "nats" in self.running:
            until(self._answers, 20)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        return False

    def kill(self, *names: str) -> None:
        for name in names or tuple(self.running):
            process = self.running.pop(name)
            process.send_signal(signal.SIGKILL)
            process.wait(10)

    def log(self) -> str:
        return "".join(file.read_text() for file in self.folder.glob("*.log"))

    def make_bucket(self) -> None:
        async def make() -> None:
            connection = await nats.connect(self.url, user=nats_part.OWNER, password=PASSWORD)
            await connection.jetstream().create_key_value(bucket=BUCKET, history=1)
            await connection.close()

        asyncio.run(make())

    def settings(self, service: str, account: str = "") -> ServiceSettings:
        """As in a pod of the service. `account`: another account that the pod has."""
        return self.store.settings(self.folder, service, account, nats_url=self.url, store_issues=("nats",))

    def registered(self) -> set[str]:
        return set(self.store.operator().names(f"kv/metadata/{REGISTRY}"))

    def used(self) -> set[str]:
        """Registered logins with a connection."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/connz?auth=1", timeout=5) as answer:
            found = {one.get("authorized_user", "") for one in json.load(answer)["connections"]}
        return {login for login in found if "." in login}


@pytest.fixture(scope="module")
def stand(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(shared_store, tmp_path_factory.mktemp("nats"), free_port(), free_port())
    made.start()
    made.make_bucket()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for rotations more often."""
    monkeypatch.setattr(issued_login, "EVERY_S", 0.2)
    monkeypatch.setattr(issued_login, "_AGAIN_S", (0.2, 0.2))
    monkeypatch.setattr(rotation, "_EVERY_S", 0.1)


async def becomes(what: Callable[[], bool], why: Callable[[], str] = str, within_s: float = 60) -> None:
    try:
        async with asyncio.timeout(within_s):
            while not what():
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(why()[-8000:])


@dataclass
class Pods:
    """A service that writes a bucket, and one that follows it and sends to itself."""

    keeper: Bus
    line: bus.Line
    followed: Following
    written: int = 0
    sent: int = 0
    received: dict[int, int] = field(default_factory=dict[int, int])
    values: list[int] = field(default_factory=list[int])
    failures: list[str] = field(default_factory=list[str])

    async def write(self) -> None:
        """Write one value."""
        self.written += 1
        try:
            await self.keeper.put(BUCKET, "value", str(self.written).encode())
        except (NatsError, OSError, TimeoutError) as error:
            self.failures.append(repr(error))

    async def send(self) -> None:
        """Send one message."""
        self.sent += 1
        try:
            async with self.line.using() as client:
                await client.publish("router.used", str(self.sent).encode())
        except (NatsError, OSError, TimeoutError) as error:
            self.failures.append(repr(error))

    async def take(self, message: Any) -> None:
        """Count a message."""
        number = int(message.data)
        self.received[number] = self.received.get(number, 0) + 1


@contextlib.asynccontextmanager
async def pods(stand: Stand) -> AsyncIterator[Pods]:
    """Both services, connected."""
    keeper, follower = stand.settings(KEEPER), stand.settings(FOLLOWER)
    values = list[int]()
    followed = Following(stand.url, BUCKET, lambda _, value: values.append(int(value or 0)), bus.options(follower))
    made = Pods(Bus(keeper), bus.Line(stand.url, bus.options(follower), max_reconnect_attempts=-1), followed)
    made.values = values
    following = asyncio.create_task(followed.run())
    try:
        async with asyncio.timeout(60):
            while await made.keeper.probe(BUCKET) is not None:
                await asyncio.sleep(0.1)
        await made.line.subscribe("router.used", made.take)
        await becomes(lambda: followed.away_since is None, stand.log)
        yield made
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await made.keeper.close()
        await made.line.close()
        for settings, logins in list(nats_login._OF_PROCESS.values()):  # the process goes on
            for task in list(logins._tasks):
                task.cancel()
            await logins.end()
            nats_login._OF_PROCESS.pop(id(settings))


@contextlib.asynccontextmanager
async def under_load(made: Pods) -> AsyncIterator[None]:
    """Writes and messages without a pause. At the end, each has arrived."""
    going = True
    made.values.clear()  # a bucket has the last value of the test before

    async def repeat(act: Callable[[], Any]) -> None:
        while going:
            await act()
            await asyncio.sleep(0.002)

    tasks = [asyncio.create_task(repeat(act)) for act in (made.write, made.send)]
    try:
        yield
    finally:
        going = False
        await asyncio.gather(*tasks)
    assert made.failures == []
    await becomes(lambda: made.values[-1] == made.written, lambda: f"{made.values[-3:]} of {made.written}")
    assert made.values == sorted(set(made.values))
    await becomes(lambda: len(made.received) == made.sent, lambda: f"{len(made.received)} of {made.sent}")


def rotate(stand: Stand) -> None:
    for done in rotation.rotate(stand.store.operator(), dict(SECRETS), 30):
        assert (done.problem, done.logins, done.ended) == ("", 1, 0)


def test_rotations_under_load_lose_no_message_and_leave_one_login(stand: Stand) -> None:
    async def work() -> None:
        async with pods(stand) as made:
            async with under_load(made):
                for _ in range(5):
                    before, written, sent = stand.registered(), made.written, made.sent
                    assert len(before) == 2
                    await asyncio.to_thread(rotate, stand)
                    after = await asyncio.to_thread(stand.registered)
                    assert len(after) == 2 and not before & after
                    await becomes(lambda after=after: stand.used() == after, stand.log)
                    assert made.written > written and made.sent > sent
            assert made.written > 100
        assert stand.registered() == set()  # a stopped pod leaves no login

    asyncio.run(work())


def test_two_rotations_at_once_both_succeed(stand: Stand) -> None:
    async def work() -> None:
        async with pods(stand) as made, under_load(made):
            await asyncio.gather(*(asyncio.to_thread(rotate, stand) for _ in range(2)))

    asyncio.run(work())


def _registered(stand: Stand) -> set[str]:
    """The registered logins; none while the store starts."""
    with contextlib.suppress(Refused, Unreachable):
        return stand.registered()
    return set()


def test_a_restarted_nats_knows_its_logins_while_the_store_is_away(stand: Stand) -> None:
    async def work() -> None:
        async with pods(stand) as made:
            stand.store.kill("serve")
            stand.kill()
            stand.start()
            begun = time.monotonic()
            async with asyncio.timeout(60):
                while await made.keeper.probe(BUCKET) is not None:
                    await asyncio.sleep(0.1)
            assert time.monotonic() - begun < 30
            stand.store.start("serve")
            async with under_load(made):
                # A login that was refused before the process answered is replaced, and ends.
                await becomes(lambda: _registered(stand) == stand.used(), stand.log)

    try:
        asyncio.run(work())
    finally:
        if "serve" not in stand.store.running:
            stand.store.start("serve")


@pytest.mark.drill("secret-store")
def test_a_login_that_an_operator_ends_loses_its_connection_and_the_pod_gets_another_one(stand: Stand) -> None:
    async def work() -> None:
        async with pods(stand) as made:
            (ended,) = (login for login in stand.registered() if login.startswith(f"{KEEPER}."))
            stand.store.operator().remove(f"kv/metadata/{REGISTRY}/{ended}")
            await becomes(lambda: ended not in stand.used(), stand.log, 90)
            async with asyncio.timeout(60):
                while await made.keeper.probe(BUCKET) is not None:
                    await asyncio.sleep(0.1)
            async with under_load(made):
                await asyncio.sleep(0.5)

    asyncio.run(work())


async def refused(stand: Stand, user: str, password: str) -> bool:
    """Whether NATS refuses a login."""

    async def quiet(_: Exception) -> None:
        return

    try:
        connection = await nats.connect(
            stand.url, user=user, password=password, allow_reconnect=False, error_cb=quiet, connect_timeout=5
        )
    except NatsError as error:
        assert nats_login.REFUSED in str(error)
        return True
    await connection.close()
    return False


def test_only_a_registered_login_with_its_password_is_accepted(stand: Stand) -> None:
    async def work() -> None:
        async with pods(stand) as made:
            login = made.line._login["logins"]
            user, password = login.user(), login.password()
            assert not await refused(stand, user, password)
            service, _, number = user.partition(".")
            foreign = (f"{KEEPER}.{number}", f"unknown.{number}", f"{service}.{'0' * 16}", service, "", "../kv", "nats")
            for other in foreign:
                assert await refused(stand, other, password), other
            for other in ("", "x", password[:-1], PASSWORD):
                assert await refused(stand, user, other), other
            async with made.line.using() as client:
                with pytest.raises((NatsError, TimeoutError)):  # it follows the bucket, and does not keep it
                    await (await client.jetstream(timeout=1).key_value(BUCKET)).put("value", b"1")

    asyncio.run(work())


def test_a_pod_with_another_services_account_gets_no_login(stand: Stand) -> None:
    async def work() -> None:
        settings = stand.settings(KEEPER, account="billing")
        made = Bus(settings)
        assert await made.probe(BUCKET) is not None
        await made.close()
        _, logins = nats_login._OF_PROCESS.pop(id(settings))
        for task in list(logins._tasks):
            task.cancel()
        assert stand.registered() == set()

    asyncio.run(work())


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_registers_logins_for_itself_only_and_reads_none(stand: Stand, service: str) -> None:
    client, allowed = stand.store.client(service), set[str]()
    for other in SERVICES:
        path = f"{REGISTRY}/{other}.{'f' * 16}"
        with contextlib.suppress(Refused):
            client.write(f"kv/data/{path}", {"data": {"sha256": ""}})
            allowed.add(other)
            with pytest.raises(Refused):
                client.read(f"kv/data/{path}")
            client.remove(f"kv/metadata/{path}")
    assert allowed == ({service} if service in OWNERS else set())
    with pytest.raises(Refused):
        client.names(f"kv/metadata/{REGISTRY}")


def test_an_operator_registers_no_login(stand: Stand) -> None:
    with pytest.raises(Refused):
        stand.store.operator().write(f"kv/data/{REGISTRY}/{KEEPER}.{'f' * 16}", {"data": {"sha256": ""}})
