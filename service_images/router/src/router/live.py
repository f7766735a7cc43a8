"""Follows the route table in NATS: a new one is in force in every replica within a second, without a restart.

The table is the value of one key in a JetStream key-value bucket, so that a router that starts later finds it too.
While NATS is away, the router goes on with what it has.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kit import bus, logs
from nats.errors import Error as NatsError
from nats.js.errors import BucketNotFoundError, KeyNotFoundError

from router.routes import RouteTable, RouteTableError, parse

log = logs.get("router.live")
BUCKET, KEY = "router", "table"
_BACKOFF_S = (0.2, 5.0)
_RECONNECT_S = 0.5


class LiveTable:
    """The table as NATS has it, handed to `changed` each time that it is another one."""

    def __init__(
        self, url: str, changed: Callable[[RouteTable], None], login: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._url, self._changed, self._login = url, changed, login
        self._revision = 0

    async def run(self) -> None:
        """Follow for ever."""
        low, high = _BACKOFF_S
        pause = low
        while True:
            try:
                await self._follow()
                pause = low
            except BucketNotFoundError:
                pause = low  # nobody has written a table yet
            except (NatsError, OSError, TimeoutError) as error:
                log.warning("NATS does not answer", reason=repr(error), again_in_s=round(pause, 1))
                pause = min(pause * 2, high)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _follow(self) -> None:
        """Watch until the connection is lost."""
        lost = asyncio.Event()

        async def on_lost() -> None:
            lost.set()

        connection = await bus.connect(
            self._url,
            self._login,
            allow_reconnect=False,  # a new connection reads the table anew: nothing written meanwhile is missed
            connect_timeout=2,
            disconnected_cb=on_lost,
            closed_cb=on_lost,
            ping_interval=10,
            max_outstanding_pings=2,
        )
        try:
            bucket = await connection.jetstream().key_value(BUCKET)
            watcher = await bucket.watch(KEY)
            ended = asyncio.create_task(lost.wait())
            try:
                while not ended.done():
                    update = asyncio.create_task(watcher.updates(timeout=_RECONNECT_S))
                    await asyncio.wait({update, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not update.done():
                        update.cancel()
                        break
                    if update.exception() is None and (entry := update.result()) is not None and entry.value:
                        self._take(entry.value, entry.revision or 0)
            finally:
                ended.cancel()
        except KeyNotFoundError:
            return
        finally:
            await connection.close()

    def _take(self, content: bytes, revision: int) -> None:
        if revision == self._revision:
            return
        self._revision = revision
        try:
            self._changed(parse(content, f"{BUCKET}/{KEY} revision {revision}"))
        except RouteTableError as error:
            # What works is better than what cannot be understood.
            log.error("the new route table is not taken", reason=str(error))
