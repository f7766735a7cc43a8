"""Tracks which replicas have applied the values of a NATS bucket: followers report, and the bucket's owner collects.

A follower reports its last applied revision and rejected keys on `in_force.<bucket>.<service>`, soon after each change
and every `EVERY_S` seconds. The subject contains the service's name, so that NATS accounts prevent reports in the name
of another service. The owner forgets a replica that reports its end, or is silent for `GONE_S` seconds.
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
"""Seconds between two reports of a replica without changes."""
SOON_S = 0.1
"""Seconds within which changes are combined into one report."""
GONE_S = 3 * EVERY_S
"""Seconds of silence after which a replica counts as ended."""
LAG_S = 30.0
"""Age in seconds of an unapplied revision at which a replica lags."""
MOST_REJECTED = 1000
"""Most keys in one report. With keys and reasons of up to 400 bytes, it stays below NATS' limit of 1 MiB."""
_REASON = 200
INSTANCE = f"{socket.gethostname()}:{os.getpid()}"
"""Name of this replica: the pod's name and a number that survives a restart of the container."""
LAGGING = Gauge(
    "followers_lagging",
    "Replicas that have not applied a change of a bucket within 30 s (behind), or could not (rejected).",
    ["bucket", "why"],
    registry=telemetry.REGISTRY,
)


def subject(bucket: str, service: str = "*") -> str:
    """Subject of a service's reports about a bucket. The default matches all services."""
    return f"in_force.{bucket}.{service}"


class Report(msgspec.Struct):
    """Report of one replica."""

    service: str
    instance: str
    revision: int = 0
    """Revision of the bucket up to which all values are applied or rejected."""
    rejected: dict[str, str] = {}
    """Reason of rejection by key."""
    more_rejected: bool = False
    """Whether more keys are rejected than a report can contain."""
    ends: bool = False
    """Whether the replica is shutting down."""


_decode = msgspec.json.Decoder(Report).decode


class Reporter:
    """Follower side. Without a login, no reports are sent, since their sender would be unknown."""

    def __init__(self, bucket: str, login: Mapping[str, Any], instance: str = INSTANCE) -> None:
        self._bucket, self._service, self._instance = bucket, str(login.get("name", "")), instance
        self._revision = 0
        self._rejected: dict[str, str] = {}
        self._changed, self._sent = True, float("-inf")

    def reached(self, revision: int) -> None:
        """Record that all values up to this revision are applied or rejected."""
        self._changed |= revision != self._revision
        self._revision = revision

    def outcome(self, key: str, reason: str | None) -> None:
        """Record that a key's value or deletion was applied (None), or rejected with a reason."""
        if reason is None:
            self._changed |= self._rejected.pop(key, None) is not None
        else:
            self._changed = True
            self._rejected[key] = reason[:_REASON]

    async def send(self, connection: Client) -> None:
        """Send a report if one is due."""
        waited = time.monotonic() - self._sent
        if self._service and (waited >= EVERY_S or (self._changed and waited >= SOON_S)):
            self._changed, self._sent = False, time.monotonic()
            await self._publish(connection, ends=False)

    async def end(self, connection: Client) -> None:
        """Report the end of this replica. If that fails, its silence has the same effect."""
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
    """Owner side: collects reports in memory."""

    def __init__(self, nats: bus.Bus, *buckets: str) -> None:
        self._bus, self.buckets = nats, buckets
        self._seen: dict[str, dict[tuple[str, str], tuple[float, Report]]] = {bucket: {} for bucket in buckets}
        self._written: dict[str, deque[tuple[float, int]]] = {bucket: deque() for bucket in buckets}
        """Monotonic time at which the bucket was seen at a revision."""

    async def run(self) -> None:
        """Run until cancelled."""
        heard = False
        while not bus.is_cancelled():
            try:
                if not heard:
                    for bucket in self.buckets:
                        await self._bus.subscribe(subject(bucket), self._take)
                    heard = True
                for bucket in self.buckets:
                    self._written[bucket].append((time.monotonic(), await self._bus.last(bucket)))
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("cannot find out what replicas have applied", reason=repr(error))
            self.measure()
            await asyncio.sleep(EVERY_S if heard else 1.0)

    async def _take(self, message: Any) -> None:
        _, bucket, service = message.subject.split(".")
        try:
            report = _decode(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.warning("received an invalid report", service=service, bucket=bucket, reason=str(error))
            return
        name = (service, report.instance)
        if report.ends:
            self._seen[bucket].pop(name, None)
        else:
            self._seen[bucket][name] = (time.monotonic(), report)

    def reports(self, bucket: str) -> list[tuple[str, Report]]:
        """(service, last report) of each running replica."""
        now = time.monotonic()
        there = {name: seen for name, seen in self._seen[bucket].items() if now - seen[0] < GONE_S}
        self._seen[bucket] = there
        return [(service, report) for (service, _), (_, report) in sorted(there.items())]

    def written(self, bucket: str) -> int:
        """Last revision of the bucket, as of some seconds ago; 0 if unknown."""
        written = self._written[bucket]
        return written[-1][1] if written else 0

    async def of(self, bucket: str, key: str) -> tuple[bytes | None, Replicas | None]:
        """(value of a key in NATS, replicas that have applied it). The replicas are None if NATS is unavailable."""
        try:
            value, revision = await self._bus.get(bucket, key)
        except (NatsError, OSError, TimeoutError) as error:
            log.warning("cannot find out what is in force", bucket=bucket, reason=repr(error))
            return None, None
        reports = self.reports(bucket)
        behind = [
            Behind(service=service, instance=report.instance, reason=reason)
            for service, report in reports
            if (reason := _missing(report, key, revision)) is not None
        ]
        return value, Replicas(in_force=len(reports) - len(behind), of=len(reports), behind=behind)

    def measure(self) -> None:
        """Update the metrics."""
        for bucket in self.buckets:
            reports, due = self.reports(bucket), self._due(bucket)
            LAGGING.labels(bucket, "behind").set(sum(report.revision < due for _, report in reports))
            LAGGING.labels(bucket, "rejected").set(sum(bool(report.rejected) for _, report in reports))

    def _due(self, bucket: str) -> int:
        """Revision that all replicas must have applied by now."""
        written, due = self._written[bucket], 0
        until = time.monotonic() - LAG_S
        while written and written[0][0] <= until:
            due = written.popleft()[1]
        if due:
            written.appendleft((until, due))
        return due


def _missing(report: Report, key: str, revision: int) -> str | None:
    """Reason why a replica has not applied a key's revision; None if it has."""
    if report.revision < revision:
        return ""
    if report.more_rejected and key not in report.rejected:
        return "more values are rejected than a report can contain"
    return report.rejected.get(key)
