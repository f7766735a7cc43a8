"""Follows NATS key-value buckets: receives all current values, then each change within milliseconds.

After a reconnection, and with a new login, the whole bucket is read again, so that no change is missed, including
deletions. While NATS is unavailable, the follower keeps the last known values. The bucket's owner receives reports of
the applied revisions (`kit.in_force`).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import BucketNotFoundError
from prometheus_client import Gauge

from kit import bus, logs, telemetry
from kit.in_force import INSTANCE, Reporter

log = logs.get("kit.following")
Take = Callable[[str, bytes | None], None]
"""Callback with a key and its value, or None if it was deleted. Its exceptions are logged and reported only."""
_BACKOFF_S = (0.2, 5.0)
_WAIT_S = 0.5
AWAY = Gauge(
    "bucket_away_seconds",
    "Seconds since when this replica cannot receive changes of a bucket of NATS; 0: it receives them.",
    ["bucket"],
    registry=telemetry.REGISTRY,
)


class Following:
    """Passes the values of a bucket to `take`."""

    def __init__(
        self,
        url: str,
        bucket: str,
        take: Take,
        login: Mapping[str, Any] = MappingProxyType({}),
        instance: str = INSTANCE,
    ) -> None:
        self._url, self._bucket, self._take, self._login = url, bucket, take, login
        self._known: dict[str, int] = {}
        self._reporter = Reporter(bucket, login, instance)
        self.away_since: float | None = time.monotonic()
        """Monotonic time since which no changes are received; None while the bucket is being followed."""
        AWAY.labels(bucket).set_function(self._away_s)

    def _away_s(self) -> float:
        return 0.0 if self.away_since is None else time.monotonic() - self.away_since

    def revision(self, key: str) -> int:
        """Revision of the value that was passed on last; 0 if the key has none."""
        return self._known.get(key, 0)

    async def run(self) -> None:
        """Run until cancelled."""
        low, high = _BACKOFF_S
        pause = low
        while not bus.is_cancelled():
            try:
                if await self._follow():
                    continue
                pause = low
            except BucketNotFoundError:
                pause = low  # the bucket is empty
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("NATS is unavailable", bucket=self._bucket, reason=repr(error), again_in_s=round(pause, 1))
                pause = min(pause * 2, high)
            if not bus.is_cancelled():
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _follow(self) -> bool:
        """Follow until the connection is lost. Returns whether it only has to be made again, with a new login."""
        async with bus.login_of(self._login) as held:
            await self._connected(held.replaced)
            return held.replaced.is_set()

    async def _connected(self, replaced: asyncio.Event) -> None:
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        connection = await bus.connect(
            self._url,
            self._login,
            allow_reconnect=False,  # a new connection reads the whole bucket again
            connect_timeout=2,
            disconnected_cb=on_lost,
            closed_cb=on_lost,
            ping_interval=10,
            max_outstanding_pings=2,
        )
        try:
            store = await connection.jetstream().key_value(self._bucket)
            watcher = await store.watchall()
            ended = asyncio.create_task(lost.wait())
            seen: set[str] = set()
            last = 0
            try:
                while not (ended.done() or replaced.is_set() or bus.is_cancelled()):
                    await self._reporter.send(connection)
                    update = asyncio.create_task(watcher.updates(timeout=_WAIT_S))
                    await asyncio.wait({update, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not update.done():
                        update.cancel()
                        return
                    if update.exception() is not None:
                        if not isinstance(update.exception(), NatsTimeout):
                            return
                        continue
                    entry = update.result()
                    if entry is None:
                        self.away_since = None
                        self._forget(seen)
                        self._reporter.reached(last)
                        continue
                    seen.add(entry.key)
                    last = entry.revision or 0
                    gone = entry.operation in ("DEL", "PURGE")
                    self._tell(entry.key, None if gone else entry.value or b"", last)
                    if self.away_since is None:
                        self._reporter.reached(last)
            finally:
                ended.cancel()
                if bus.is_cancelled():
                    await self._reporter.end(connection)
        finally:
            if self.away_since is None:
                self.away_since = time.monotonic()
            await connection.close()

    def _forget(self, seen: set[str]) -> None:
        """After all current values were received: report earlier keys that are missing now as deleted."""
        for key in self._known.keys() - seen:
            self._tell(key, None, 0)

    def _tell(self, key: str, value: bytes | None, revision: int) -> None:
        if value is None:
            if self._known.pop(key, None) is None:
                return
        elif self._known.get(key) == revision:
            return
        else:
            self._known[key] = revision
        try:
            self._take(key, value)
            self._reporter.outcome(key, None)
        except Exception as error:
            self._reporter.outcome(key, str(error) or repr(error))
            log.error("a value was rejected", bucket=self._bucket, key=key, reason=str(error))
