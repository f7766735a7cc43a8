"""Logins for the cache from a real OpenBao, in a real Redis, through the kit."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from bao_server import Store, until
from baonode import rotation
from baonode.client import Client, Refused
from kit import issued_login
from kit.cache import Cache
from kit.settings import ServiceSettings

from components.data import cache as cache_part
from components.data.cache_rights import service_rules
from components.security import store_names, store_rights
from components.services.registry import SERVICES
from service_images.conftest import SOURCES
from service_images.ports import free_port

OWNERS = [name for name, one in SERVICES.items() if one.cache]
SERVICE, OTHER = "prompt", "embeddings"
SECRET = f"{store_names.CACHE}/{SERVICE}"
PASSWORD = "of-the-store"


@dataclass
class Stand:
    """A store that is connected to a server, which keeps nothing over a restart."""

    store: Store
    folder: Path
    port: int
    running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server with the platform's users."""
        passwords = {cache_part.OWNER: "of-the-exporter", store_names.ISSUER: PASSWORD}
        (self.folder / "users.acl").write_text(cache_part.access_list(passwords))
        program = str(Path(sys.executable).with_name("redis-server"))
        command = [program, "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        command += ["--dir", str(self.folder), "--aclfile", str(self.folder / "users.acl")]
        self.running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return True
            return False

        until(answers, 20)

    def kill(self) -> None:
        """Kill the server, which then knows no issued login any more."""
        if self.running is not None:
            self.running.send_signal(signal.SIGKILL)
            self.running.wait(10)
            self.running = None

    def connect(self) -> None:
        """Run the store's task."""
        tokens = self.folder / "tokens"
        self.store.cluster.project(tokens, store_names.DATABASE_ACCOUNT, store_names.AUDIENCE)
        own = {"CACHE_URL": self.url, "CREDENTIALS": str(self.folder), "STORE_TOKEN": str(tokens)}
        self.store.environment |= own
        self.store.start("databases")
        for name in own:
            del self.store.environment[name]
        assert self.store.running.pop("databases").wait(60) == 0, self.store.log("databases")

    def settings(self, service: str = SERVICE, account: str = "") -> ServiceSettings:
        """As in a pod of the service. `account`: another account that the pod has."""
        return self.store.settings(self.folder, service, account, cache_url=self.url, store_issues=("cache",))

    def root(self) -> redis.Redis:
        """A client with the store's own login."""
        return redis.Redis.from_url(self.url, username=store_names.ISSUER, password=PASSWORD, decode_responses=True)

    def issued(self, service: str = SERVICE) -> list[str]:
        """Issued users that the server has."""
        users: Any = self.root().execute_command("ACL", "USERS")
        return [name for name in users if f"_{service.upper()}.CACHE_" in name]

    def issue(self, service: str = SERVICE) -> redis.Redis:
        """A client with a login that no pod has."""
        found = self.store.client(service).ask("GET", f"database/creds/{service}.cache")["data"]
        return redis.Redis.from_url(self.url, username=found["username"], password=found["password"])

    def task(self, *services: str) -> str:
        """Run the cache's task, as a release with these services does. Returns what it says."""
        rules = {service: service_rules(service) for service in services}
        asked = json.dumps({"issuer": store_names.ISSUER, "rules": rules})
        own = {"ENDPOINT": self.url, "CHECK_LOGINS": "", "CHECK_ISSUED": asked}
        # The task reads a fixed folder, so a program of one line gives it this one.
        program = (
            "import sys; from pathlib import Path; from tasks import cache, common\n"
            "common.CREDENTIALS = Path(sys.argv[1]); cache.main()"
        )
        own["PYTHONPATH"] = str(SOURCES / "data-tasks" / "src")
        command = [sys.executable, "-c", program, str(self.folder)]
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stand(shared_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(shared_store, tmp_path_factory.mktemp("cache"), free_port())
    (made.folder / store_names.ISSUER).mkdir()
    (made.folder / store_names.ISSUER / "cache").write_text(PASSWORD)
    made.start()
    made.connect()
    yield made
    made.kill()


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for rotations more often."""
    monkeypatch.setattr(issued_login, "EVERY_S", 0.2)
    monkeypatch.setattr(issued_login, "_AGAIN_S", (0.2, 0.2))
    monkeypatch.setattr(rotation, "_EVERY_S", 0.1)


@contextlib.asynccontextmanager
async def pod(settings: ServiceSettings) -> AsyncIterator[Cache]:
    """A service's cache, which follows its login."""
    cache = Cache(settings)
    following = asyncio.create_task(cache.run())
    try:
        yield cache
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cache.close()


async def becomes(what: Callable[[], bool], within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.05)


async def serves(cache: Cache, within_s: float = 60) -> None:
    """Wait until the cache keeps a value."""
    async with asyncio.timeout(within_s):
        while await cache.get("a") != [b"1"]:
            await cache.put({"a": b"1"}, 600)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def under_load(cache: Cache, clients: int = 8) -> AsyncIterator[tuple[list[int], list[str]]]:
    """Reads and writes without a pause: (number, misses). A failed command is a miss."""
    misses, number, going = list[str](), [0], True

    async def ask(client: int) -> None:
        turn = 0
        while going:
            turn += 1
            key, value = f"load-{client}", f"{turn}".encode()
            await cache.put({key: value}, 600)
            if (found := await cache.get(key)) != [value]:
                misses.append(f"{key}: {found} instead of {value!r}")
            number[0] += 1
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(ask(client)) for client in range(clients)]
    try:
        yield number, misses
    finally:
        going = False
        await asyncio.gather(*tasks)


@pytest.mark.drill("secret-store")
def test_twenty_rotations_under_load_miss_no_value_and_leave_one_login(stand: Stand) -> None:
    async def work() -> None:
        operator = stand.store.operator()
        async with pod(stand.settings()) as cache:
            await serves(cache)
            async with under_load(cache) as (number, misses):
                for _ in range(20):
                    before, asked = set(stand.issued()), number[0]
                    (done,) = await asyncio.to_thread(rotation.rotate, operator, {SECRET: 1}, 30)
                    assert (done.problem, done.logins) == ("", 1)
                    await becomes(lambda before=before: not before & set(stand.issued()))
                    assert number[0] > asked
            assert misses == []
            assert len(stand.issued()) == 1
        assert stand.issued() == []  # a stopped pod leaves no login

    asyncio.run(work())


def test_two_rotations_at_once_both_succeed(stand: Stand) -> None:
    async def work() -> None:
        async with pod(stand.settings()) as cache:
            await serves(cache)
            async with under_load(cache) as (_, misses):
                turns = [asyncio.to_thread(rotation.rotate, stand.store.operator(), {SECRET: 1}, 30) for _ in range(2)]
                for (done,) in await asyncio.gather(*turns):
                    assert (done.problem, done.logins) == ("", 1)
            assert misses == []

    asyncio.run(work())


class Killed(BaseException):
    """The rotation's process is killed before this request."""


class Mortal(Client):
    """A client whose process ends before the request with this number."""

    def __init__(self, stand: Stand, dies_at: int) -> None:
        super().__init__(stand.store.url, (stand.store.cluster.folder / "ca.crt").read_text())
        self.login(store_rights.OPERATOR, stand.store.cluster.token(f"{store_names.AUDIENCE}-operator", "secret-store"))
        self._left = dies_at

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        if not path.startswith("auth/"):
            if not self._left:
                raise Killed
            self._left -= 1
        return super().ask(method, path, body)


@pytest.mark.drill("secret-store")
def test_a_rotation_that_is_killed_before_any_request_misses_no_value_and_can_be_repeated(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "_EVERY_S", 0.5)  # two looks, so that few requests come before the last steps

    async def work() -> None:
        async with pod(stand.settings()) as cache:
            await serves(cache)
            async with under_load(cache) as (_, misses):
                for dies_at in range(9):
                    stand.issue()  # of a pod that was killed: the last request ends it
                    with contextlib.suppress(Killed):
                        await asyncio.to_thread(rotation.rotate, Mortal(stand, dies_at), {SECRET: 1}, 1)
                    assert await cache.get("a") == [b"1"]
                (done,) = await asyncio.to_thread(rotation.rotate, stand.store.operator(), {SECRET: 1}, 5)
                assert (done.problem, done.logins) == ("", 1)
            assert misses == []

    asyncio.run(work())


def test_a_restarted_cache_has_lost_its_users_and_gets_new_ones(stand: Stand) -> None:
    async def work() -> None:
        async with pod(stand.settings()) as cache:
            await serves(cache)
            stand.kill()
            assert await cache.get("a") == [None]
            stand.start()
            begun = time.monotonic()
            await serves(cache)
            assert time.monotonic() - begun < 30
            assert len(stand.issued()) == 1

    asyncio.run(work())


def test_without_the_store_the_held_login_works_and_a_new_pod_misses_until_it_is_back(stand: Stand) -> None:
    async def work() -> None:
        async with pod(stand.settings()) as cache:
            await serves(cache)
            stand.store.kill("serve")
            async with under_load(cache) as (_, misses), pod(stand.settings()) as new:
                begun = time.monotonic()
                while time.monotonic() - begun < 3:
                    assert await new.get("a") == [None]
                    await asyncio.sleep(0.1)
                stand.store.start("serve")
                await serves(new)
            assert misses == []

    asyncio.run(work())


def test_a_pod_with_another_services_account_gets_no_login(stand: Stand) -> None:
    async def work() -> None:
        settings = stand.settings(account="billing")
        cache = Cache(settings)
        following = asyncio.create_task(cache.run())
        begun = time.monotonic()
        while time.monotonic() - begun < 2:
            assert await cache.get("a") == [None]
            await asyncio.sleep(0.1)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await cache.close()
        assert stand.issued() == []

    asyncio.run(work())


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_logins_for_its_own_keys_and_no_others(stand: Stand, service: str) -> None:
    client, allowed = stand.store.client(service), set[str]()
    for other in SERVICES:
        with contextlib.suppress(Refused):
            client.ask("GET", f"database/creds/{other}.cache")
            allowed.add(other)
    client.logout()  # ends the logins, too
    assert allowed == ({service} if service in OWNERS else set())


def test_an_issued_login_reaches_its_own_keys_only_and_makes_no_users(stand: Stand) -> None:
    client = stand.issue()
    assert client.set(f"{SERVICE}:x", b"1")
    for command in (("GET", f"{OTHER}:x"), ("KEYS", "*"), ("ACL", "USERS"), ("CONFIG", "GET", "*"), ("FLUSHALL",)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)
    for user in stand.issued():
        stand.root().execute_command("ACL", "DELUSER", user)


def test_the_stores_own_login_reads_no_key(stand: Stand) -> None:
    for command in (("GET", f"{SERVICE}:x"), ("KEYS", "*"), ("ACL", "LIST"), ("ACL", "GETUSER", "default")):
        with pytest.raises(redis.exceptions.NoPermissionError):
            stand.root().execute_command(*command)


def test_the_task_ends_forgotten_users_and_those_of_removed_services_and_no_others(stand: Stand) -> None:
    root, now = stand.root(), int(time.time())
    names = {
        "fresh": f"V_KUBERNETES-SPACE-PROMPT_PROMPT.CACHE_AAAAAAAAAAAAAAAAAAAA_{now}",
        "old": f"V_KUBERNETES-SPACE-PROMPT_PROMPT.CACHE_BBBBBBBBBBBBBBBBBBBB_{now - 26 * 3600}",
        "removed": f"V_KUBERNETES-SPACE-EMBEDDINGS_EMBEDDINGS.CACHE_CCCCCCCCCCCCCCCCCCCC_{now}",
    }
    digest = hashlib.sha256(b"x").hexdigest()
    for name in names.values():
        root.execute_command("ACL", "SETUSER", name, "on", f"#{digest}")
    real = stand.issue()
    said = stand.task(SERVICE)
    assert f"{names['old']} has no lease any more, and is deleted" in said
    users: Any = root.execute_command("ACL", "USERS")
    assert set(names.values()) & set(users) == {names["fresh"]}
    assert real.ping()
    assert not [name for name in users if name.startswith("check-")]
