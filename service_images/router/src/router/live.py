"""Follows the route table in NATS: a new one is in force in every replica within a second, without a restart.

The table is the value of one key in a JetStream key-value bucket, so that a router that starts later finds it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kit import logs
from kit.following import Following

from router.routes import RouteTable, RouteTableError, parse

log = logs.get("router.live")
BUCKET, KEY = "router", "table"


class LiveTable:
    """The table as NATS has it, handed to `changed` each time that it is another one."""

    def __init__(
        self, url: str, changed: Callable[[RouteTable], None], login: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self._changed = changed
        self._following = Following(url, BUCKET, self._take, login, KEY)

    async def run(self) -> None:
        """Follow for ever."""
        await self._following.run()

    def _take(self, _: str, content: bytes | None) -> None:
        if not content:
            return
        try:
            self._changed(parse(content, f"{BUCKET}/{KEY}"))
        except RouteTableError as error:
            # What works is better than what cannot be understood.
            log.error("the new route table is not taken", reason=str(error))
