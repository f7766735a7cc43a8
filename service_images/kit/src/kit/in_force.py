"""Which replicas have applied what a key-value bucket of NATS holds: followers report, the bucket's owner collects.

A follower reports on `in_force.<bucket>.<service>` the last revision that it has applied and the keys whose values it
rejected: soon after each change, and every `EVERY_S`. The subject names the service, so that the accounts of NATS keep
a service from reporting for another one. The owner knows a replica until it says that it ends, or is silent for
`GONE_S`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from prometheus_client import Gauge
from pydantic import BaseModel, Field

from kit import bus, logs, telemetry

log = logs.get("kit.in_force")
EVERY_S = 5.0
"""Seconds between two reports of a replica where nothing changes."""
SOON_S = 0.1
"""Changes within so many seconds make one report."""
GONE_S = 3 * EVERY_S
"""A replica that was silent for so many seconds is taken for gone."""
LAG_S = 30.0
"""A replica lags when it has not applied a revision that is older than so many seconds."""
MOST_REJECTED = 1000
"""Keys in one report: with keys and reasons of up to 400 bytes, it stays below the 1 MiB that NATS carries."""
_REASON = 200
INSTANCE = f"{socket.gethostname()}:{os.getpid()}"
"""In Kubernetes, the pod's name and a number that stays when its container is started again."""
LAGGING = Gauge(
    "followers_lagging",
    "Replicas that have not applied a change of a bucket within 30 s (behind), or could not (rejected).",
    ["bucket", "why"],
    registry=telemetry.REGISTRY,
)


def subject(bucket: str, service: str = "*") -> str:
    """Where a service reports what it has applied of a bucket; by default, where all do."""
    return f"in_force.{bucket}.{service}"


class Report(msgspec.Struct):
    """What one replica has applied."""

    service: str
    instance: str
    revision: int = 0
    """Of the bucket; all that was written up to it is applied or rejected."""
    rejected: dict[str, str] = {}
    """Why the values of these keys are not applied."""
    more_rejected: bool = False
    """There are more of them than a report holds."""
    ends: bool = False
    """The replica is shutting down."""


_decode = msgspec.json.Decoder(Report).decode


class Reporter:
    """A follower's side; without a login nobody would know whose reports they are, and none is sent."""

    def __init__(self, bucket: str, login: Mapping[str, Any], instance: str = INSTANCE) -> None:
        self._bucket, self._service, self._instance = bucket, str(login.get("name", "")), instance
        self._revision = 0
        self._rejected: dict[str, str] = {}
        self._changed, self._sent = True, float("-inf")

    def reached(self, revision: int) -> None:
        """All that was written up to this revision has been applied or rejected."""
        self._changed |= revision != self._revision
        self._revision = revision

    def outcome(self, key: str, reason: str | None) -> None:
        """A key's value, or that it has none, was applied (None), or rejected with a reason."""
        if reason is None:
            self._changed |= self._rejected.pop(key, None) is not None
        else:
            self._changed = True
            self._rejected[key] = reason[:_REASON]

    async def send(self, connection: Client) -> None:
        """Report where it is time to."""
        waited = time.monotonic() - self._sent
        if self._service and (waited >= EVERY_S or (self._changed and waited >= SOON_S)):
            self._changed, self._sent = False, time.monotonic()
            await self._publish(connection, ends=False)

    async def end(self, connection: Client) -> None:
        """Report that this replica ends; what cannot be sent any more shows by silence."""
        with suppress(NatsError, OSError):
            if self._service:
                await self._publish(connection, ends=True)

    async def _publish(self, connection: Client, ends: bool) -> None:
        rejected = dict(list(self._rejected.items())[:MOST_REJECTED])
        more = len(self._rejected) > MOST_REJECTED
        report = Report(self._service, self._instance, self._revision, rejected, more, ends)
        await connection.publish(subject(self._bucket, self._service), msgspec.json.encode(report))


class Behind(BaseModel):
    """A replica in which a value is not in force."""

    service: str
    instance: str
    reason: str = Field(description="Why it rejected the value; empty: it has not received it yet.")


class Replicas(BaseModel):
    """In how many of the replicas that use a value it is in force."""

    in_force: int
    of: int
    behind: list[Behind]

    @property
    def everywhere(self) -> bool:
        """Whether there are replicas, and the value is in force in all."""
        return 0 < self.in_force == self.of


class InForce:
    """The owner's side: collects reports for ever, in memory."""

    def __init__(self, nats: bus.Bus, *buckets: str) -> None:
        self._bus, self.buckets = nats, buckets
        self._seen: dict[str, dict[tuple[str, str], tuple[float, Report]]] = {bucket: {} for bucket in buckets}
        self._written: dict[str, deque[tuple[float, int]]] = {bucket: deque() for bucket in buckets}
        """When the bucket was seen to be at a revision, by the monotonic clock."""

    async def run(self) -> None:
        """Until it is cancelled."""
        heard = False
        while not bus.told_to_end():
            try:
                if not heard:
                    for bucket in self.buckets:
                        await self._bus.subscribe(subject(bucket), self._take)
                    heard = True
                for bucket in self.buckets:
                    self._written[bucket].append((time.monotonic(), await self._bus.last(bucket)))
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("it is not known what replicas have applied", reason=repr(error))
            self.measure()
            await asyncio.sleep(EVERY_S if heard else 1.0)

    async def _take(self, message: Any) -> None:
        _, bucket, service = message.subject.split(".")
        try:
            report = _decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("a report is not understood", service=service, bucket=bucket, reason=str(error))
            return
        name = (service, report.instance)
        if report.ends:
            self._seen[bucket].pop(name, None)
        else:
            self._seen[bucket][name] = (time.monotonic(), report)

    def reports(self, bucket: str) -> list[tuple[str, Report]]:
        """What each replica that is there reported last, with its service."""
        now = time.monotonic()
        there = {name: seen for name, seen in self._seen[bucket].items() if now - seen[0] < GONE_S}
        self._seen[bucket] = there
        return [(service, report) for (service, _), (_, report) in sorted(there.items())]

    def written(self, bucket: str) -> int:
        """The bucket's last revision, as of some seconds ago; 0: not known."""
        written = self._written[bucket]
        return written[-1][1] if written else 0

    async def of(self, bucket: str, key: str) -> tuple[bytes | None, Replicas | None]:
        """The value that a key has in NATS, and where it is in force; no replicas: NATS does not answer."""
        try:
            value, revision = await self._bus.get(bucket, key)
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("it is not known what is in force", bucket=bucket, reason=repr(error))
            return None, None
        reports = self.reports(bucket)
        behind = [
            Behind(service=service, instance=report.instance, reason=reason)
            for service, report in reports
            if (reason := _missing(report, key, revision)) is not None
        ]
        return value, Replicas(in_force=len(reports) - len(behind), of=len(reports), behind=behind)

    def measure(self) -> None:
        """Set the metrics anew."""
        for bucket in self.buckets:
            reports, due = self.reports(bucket), self._due(bucket)
            LAGGING.labels(bucket, "behind").set(sum(report.revision < due for _, report in reports))
            LAGGING.labels(bucket, "rejected").set(sum(bool(report.rejected) for _, report in reports))

    def _due(self, bucket: str) -> int:
        """The revision that every replica has to have applied by now."""
        written, due = self._written[bucket], 0
        until = time.monotonic() - LAG_S
        while written and written[0][0] <= until:
            due = written.popleft()[1]
        if due:
            written.appendleft((until, due))
        return due


def _missing(report: Report, key: str, revision: int) -> str | None:
    """Why a replica does not have a key's value of a revision; None: it has it."""
    if report.revision < revision:
        return ""
    if report.more_rejected and key not in report.rejected:
        return "more values are rejected than a report holds"
    return report.rejected.get(key)
