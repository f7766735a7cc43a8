"""The owner of a bucket knows which values its replicas have applied."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from kit import in_force, replicas
from kit.bus import Bus, options
from kit.following import AWAY, Following
from kit.in_force import LAGGING, MOST_REJECTED, InForce, Replicas, Report
from kit.settings import ServiceSettings

BUCKET = "settings"


def refuse_bad(_key: str, value: bytes | None) -> None:
    if value == b"bad":
        raise ValueError("it is bad")


@asynccontextmanager
async def running(part: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Owner:
    """The owner of a bucket on a real server."""

    def __init__(self, server: Any) -> None:
        self.url = server.url
        self.bus = Bus(ServiceSettings(name="owner", nats_url=server.url))
        self.in_force = InForce(self.bus, BUCKET)

    def follower(self, instance: str, take: Callable[[str, bytes | None], None] = refuse_bad) -> Following:
        login = options(ServiceSettings(name="follower", nats_url=self.url))
        return Following(self.url, BUCKET, take, login, instance)

    async def becomes(self, key: str, wanted: Callable[[Replicas], bool]) -> Replicas:
        deadline = time.monotonic() + 20
        while True:
            _, found = await self.in_force.of(BUCKET, key)
            if found is not None and wanted(found):
                return found
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.02)


def at(nats_server: Any, run: Callable[[Owner], Awaitable[None]]) -> None:
    nats_server.make_buckets(BUCKET)

    async def main() -> None:
        owner = Owner(nats_server)
        async with running(owner.in_force):
            await run(owner)
        await owner.bus.close()

    asyncio.run(main())


def test_the_owner_knows_in_how_many_replicas_a_value_is_in_force(nats_server: Any) -> None:
    async def run(owner: Owner) -> None:
        await owner.bus.put(BUCKET, "key", b"good")
        assert (await owner.in_force.of(BUCKET, "key"))[0] == b"good"
        async with running(owner.follower("one")), running(owner.follower("two")):
            found = await owner.becomes("key", lambda found: found.of == found.in_force == 2)
            assert found.everywhere and not found.behind
            await owner.bus.delete(BUCKET, "key")
            await owner.becomes("key", lambda found: found.in_force == 2)
        # Both have reported their end, so they are forgotten at once.
        found = await owner.becomes("key", lambda found: found.of == 0)
        assert not found.everywhere

    at(nats_server, run)


def test_a_rejected_value_is_reported_with_its_reason_until_a_good_one_comes(nats_server: Any) -> None:
    async def run(owner: Owner) -> None:
        async with running(owner.follower("one")), running(owner.follower("two", lambda _key, _value: None)):
            await owner.bus.put(BUCKET, "other", b"good")
            await owner.bus.put(BUCKET, "key", b"bad")
            # A replica that has reported nothing yet is behind without a reason.
            found = await owner.becomes("key", lambda found: [one.reason for one in found.behind] == ["it is bad"])
            (behind,) = found.behind
            assert (found.in_force, found.of) == (1, 2)
            assert (behind.service, behind.instance, behind.reason) == ("follower", "one", "it is bad")
            assert (await owner.becomes("other", lambda found: found.in_force == 2)).everywhere
            listed = {one.instance: one.rejected for one in replicas.listed(owner.in_force).data}
            assert listed == {"one": {"key": "it is bad"}, "two": {}}
            owner.in_force.measure()
            assert LAGGING.labels(BUCKET, "rejected")._value.get() == 1
            await owner.bus.put(BUCKET, "key", b"good")
            await owner.becomes("key", lambda found: found.in_force == 2)
            owner.in_force.measure()
            assert LAGGING.labels(BUCKET, "rejected")._value.get() == 0

    at(nats_server, run)


def test_a_replica_that_is_stuck_is_behind_and_raises_the_metric(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_force, "LAG_S", 0.2)
    monkeypatch.setattr(in_force, "EVERY_S", 0.1)
    stuck, entered = threading.Event(), threading.Event()

    def block(_key: str, value: bytes | None) -> None:
        if value == b"block":
            entered.set()
            assert stuck.wait(30)

    async def run(owner: Owner) -> None:
        await owner.bus.put(BUCKET, "key", b"good")
        blocked = threading.Thread(
            target=lambda: asyncio.run(follow(owner.follower("stuck", block))), name="a replica of its own"
        )
        blocked.start()
        try:
            async with running(owner.follower("one")):
                await owner.becomes("key", lambda found: found.in_force == 2)
                await owner.bus.put(BUCKET, "key", b"block")
                found = await owner.becomes("key", lambda found: found.in_force == 1 and found.of == 2)
                assert [(one.instance, one.reason) for one in found.behind] == [("stuck", "")]
                deadline = time.monotonic() + 10
                while not LAGGING.labels(BUCKET, "behind")._value.get():
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
                stuck.set()
                await owner.becomes("key", lambda found: found.in_force == 2)
                deadline = time.monotonic() + 10
                while LAGGING.labels(BUCKET, "behind")._value.get():
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.02)
        finally:
            stuck.set()
            finished.set()
            await asyncio.to_thread(blocked.join, 20)

    finished = threading.Event()

    async def follow(follower: Following) -> None:
        async with running(follower):
            await asyncio.to_thread(finished.wait, 60)

    at(nats_server, run)
    assert entered.is_set()


def test_a_replica_that_is_silent_is_forgotten(nats_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(owner: Owner) -> None:
        report = json.dumps({"service": "follower", "instance": "killed", "revision": 1}).encode()
        async with running(owner.follower("one")):
            await owner.becomes("key", lambda found: found.of == 1)
            async with owner.bus.using() as client:
                await client.publish(in_force.subject(BUCKET, "follower"), report)
                await owner.becomes("key", lambda found: found.of == 2)
                monkeypatch.setattr(in_force, "GONE_S", 0.0)
                assert owner.in_force.reports(BUCKET) == []

    at(nats_server, run)


def test_an_invalid_report_is_ignored(nats_server: Any) -> None:
    async def run(owner: Owner) -> None:
        async with running(owner.follower("one")):
            await owner.becomes("key", lambda found: found.of == 1)
            async with owner.bus.using() as client:
                for content in (b"", b"\xff", b"{", b"[]", b'{"service": 1, "instance": 2}', b"null"):
                    await client.publish(in_force.subject(BUCKET, "follower"), content)
                await client.publish(
                    in_force.subject(BUCKET, "other"), b'{"service": "follower", "instance": "x", "revision": 9}'
                )
                await owner.becomes("key", lambda found: found.of == 2)
                # The subject determines the reporting service, independently of the report.
                assert [service for service, _ in owner.in_force.reports(BUCKET)] == ["follower", "other"]

    at(nats_server, run)


def test_without_nats_the_applied_revisions_are_unknown() -> None:
    async def run() -> None:
        bus = Bus(ServiceSettings(name="owner", nats_url="nats://127.0.0.1:1"))
        assert await InForce(bus, BUCKET).of(BUCKET, "key") == (None, None)

    asyncio.run(run())


def test_more_rejected_values_than_a_report_holds_leave_none_in_force(nats_server: Any) -> None:
    sent: list[bytes] = []

    class Connection:
        async def publish(self, _subject: str, content: bytes) -> None:
            sent.append(content)

    reporter = in_force.Reporter(BUCKET, {"name": "follower"}, "one")
    for number in range(MOST_REJECTED + 1):
        reporter.outcome(f"{number:0200}", "x" * 10_000)
    asyncio.run(reporter.send(Connection()))  # pyright: ignore[reportArgumentType]
    report = in_force._decode(sent[0])
    assert len(sent[0]) < 2**20 and len(report.rejected) == MOST_REJECTED and report.more_rejected
    assert in_force._missing(report, "none of them", 0)
    assert in_force._missing(Report("follower", "one"), "none of them", 0) is None


def test_a_replica_without_nats_reports_the_duration_of_the_outage() -> None:
    Following("nats://127.0.0.1:1", "away", lambda _key, _value: None)
    assert AWAY.labels("away").collect()[0].samples[0].value >= 0
