"""The login for PostgreSQL, with a store and a clock of the test: renewed, replaced in time, kept without the store."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import issued_login
from kit.database import Database
from kit.issued_login import IssuedLogin, IssuedLogins
from kit.secret_store import SecretStore
from kit.settings import ServiceSettings

HOUR, DAY = 3600, 86_400


class FakeStore:
    """A store whose logins and leases last an hour, and a day at most."""

    def __init__(self) -> None:
        self.now = 0.0
        self.away = False
        self.rotation = 0
        self.known = dict[str, tuple[float, float]]()
        """(begin, end) of each token."""
        self.issued = self.entered = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/v1/")
        if self.away:
            raise httpx.ConnectError("away")
        if path == "auth/kubernetes/login":
            self.entered += 1
            token = f"token-{self.entered}"
            self.known[token] = (self.now, self.now + HOUR)
            return httpx.Response(200, json={"auth": {"client_token": token, "lease_duration": HOUR}})
        token = request.headers["x-vault-token"]
        begin, end = self.known.get(token, (0.0, 0.0))
        if end <= self.now:
            return httpx.Response(403, json={"errors": ["permission denied"]})
        if path.startswith("kv/data/"):
            found = {"data": {"data": {}, "metadata": {"version": self.rotation}}}
            return httpx.Response(200, json=found) if self.rotation else httpx.Response(404, json={"errors": []})
        if path.startswith("database/creds/"):
            self.issued += 1
            data = {"username": f"user-{self.issued}", "password": "secret"}
            return httpx.Response(200, json={"data": data, "lease_id": f"l{self.issued}", "lease_duration": HOUR})
        if path == "auth/token/revoke-self":
            del self.known[token]
            return httpx.Response(204)
        lasts = min(self.now + HOUR, begin + DAY) - self.now
        self.known[token] = (begin, self.now + lasts)
        if path == "auth/token/renew-self":
            return httpx.Response(200, json={"auth": {"lease_duration": lasts}})
        assert json.loads(request.content)["lease_id"] == f"l{self.issued}"
        return httpx.Response(200, json={"lease_duration": lasts})


Pod = Callable[[], Awaitable[IssuedLogin | None]]


def run(folder: Path, work: Callable[[FakeStore, IssuedLogins, Pod], Awaitable[None]]) -> None:
    """Run a test with a pod that takes each new login, and ends the one before."""
    (folder / "secret-store").write_text("token of the pod")

    async def inside() -> None:
        fake = FakeStore()
        settings = ServiceSettings(
            name="billing", store_url="https://store", store_issues=("postgres",), tokens_folder=folder
        )
        store = SecretStore(settings, httpx.MockTransport(fake.answer))
        logins = IssuedLogins(store, clock=lambda: fake.now)

        async def turn() -> IssuedLogin | None:
            found, old = await logins.round(), logins.held
            if found is not None:
                logins.take(found)
                if old is not None:
                    await logins.end(old)
            return found

        await work(fake, logins, turn)
        await store.close()

    asyncio.run(inside())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_a_login_is_renewed_until_its_longest_time_and_replaced_before_that(folder: Path) -> None:
    async def work(fake: FakeStore, logins: IssuedLogins, turn: Pod) -> None:
        while fake.now < 3 * DAY:
            await turn()
            assert logins.left_s() > HOUR / 3, fake.now
            assert logins.held is not None
            assert fake.known[logins.held.token.value][1] > fake.now
            fake.now += 10
        assert fake.issued == 4
        assert len(fake.known) == 1  # replaced logins have ended

    run(folder, work)


def test_a_rotation_replaces_the_login_once(folder: Path) -> None:
    async def work(fake: FakeStore, logins: IssuedLogins, turn: Pod) -> None:
        await turn()
        for number in (1, 2):
            fake.rotation = number
            assert await turn() is not None
            assert await turn() is None
        assert fake.issued == 3

    run(folder, work)


def test_a_login_that_the_store_no_longer_knows_is_replaced_at_once(folder: Path) -> None:
    async def work(fake: FakeStore, logins: IssuedLogins, turn: Pod) -> None:
        await turn()
        fake.known.clear()
        assert await turn() is not None
        assert not logins.problem

    run(folder, work)


def test_without_the_store_a_pod_keeps_its_login_and_says_so(folder: Path) -> None:
    async def work(fake: FakeStore, logins: IssuedLogins, turn: Pod) -> None:
        await turn()
        fake.away = True
        fake.now += 2 * HOUR
        assert await turn() is None
        assert logins.held is not None
        assert "https://store does not answer" in logins.problem
        fake.away = False
        assert await turn() is not None
        assert not logins.problem

    run(folder, work)


@given(st.lists(st.tuples(st.integers(10, 2300), st.booleans()), max_size=20))
def test_a_store_that_is_away_for_less_than_40_minutes_ends_no_login(spells: list[tuple[int, bool]]) -> None:
    async def work(fake: FakeStore, logins: IssuedLogins, turn: Pod) -> None:
        await turn()
        for seconds, away in spells:
            fake.away = away
            for _ in range(seconds // 10):
                fake.now += 10
                await turn()
                assert logins.left_s() > 0
            fake.away = False
            await turn()

    with tempfile.TemporaryDirectory() as at:
        run(Path(at), work)


def test_an_answer_of_another_form_is_a_problem_and_no_end(folder: Path) -> None:
    (folder / "secret-store").write_text("token")

    async def work() -> None:
        settings = ServiceSettings(
            name="billing", store_url="https://store", store_issues=("postgres",), tokens_folder=folder
        )
        store = SecretStore(settings, httpx.MockTransport(lambda _: httpx.Response(200, json={"auth": None})))
        logins = IssuedLogins(store)
        assert await logins.round() is None
        assert "another form" in logins.problem
        await store.close()

    asyncio.run(work())


def test_a_failure_of_any_kind_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    class Failing(IssuedLogins):
        """Logins whose every round fails as nobody expects."""

        async def round(self) -> IssuedLogin | None:
            nonlocal tries
            tries += 1
            raise RuntimeError("unexpected")

    async def work() -> None:
        settings = ServiceSettings(name="billing", store_url="https://store", store_issues=("postgres",))
        monkeypatch.setattr(issued_login, "_AGAIN_S", (0.0, 0.0))
        database = Database(settings, logins=Failing(SecretStore(settings)))
        await database.open()
        async with asyncio.timeout(10):
            while tries < 3:
                await asyncio.sleep(0)
        assert "unexpected" in str(await database.check())
        await database.close()

    asyncio.run(work())
