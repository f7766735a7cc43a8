"""Follows the Router's NATS bucket. All replicas apply changes within a second.

Keys: `table`, a whole table that replaces the file's; `route.<model>`, an operator's override; `canary.<model>`, the
decision about a canary; `cache`, the time at which all cached answers were last dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kit import bus
from kit.following import Following
from kit.in_force import INSTANCE

from router.core import Core
from router.overrides import Override, Overrides, Verdict
from router.routes import RouteTable, parse

BUCKET, TABLE, ROUTE, CANARY, CACHE = "router", "table", "route", "canary", "cache"
_REACHED_S = 2.0


class LiveRoutes:
    """Passes values of the bucket on: tables to `rebase`, the others to their owners."""

    def __init__(
        self,
        url: str,
        core: Core,
        overrides: Overrides,
        rebase: Callable[[RouteTable], None],
        login: Mapping[str, Any] = MappingProxyType({}),
        instance: str = INSTANCE,
    ) -> None:
        self._core, self._overrides, self._rebase = core, overrides, rebase
        self._following = Following(url, BUCKET, self._take, login, instance)

    async def run(self) -> None:
        """Run until cancelled."""
        await self._following.run()

    def revision(self, key: str) -> int:
        """Revision that is applied here; 0 if the key has no value."""
        return self._following.revision(key)

    async def reached(self, key: str, revision: int) -> bool:
        """Wait until this replica has applied a revision (0: a removal). Returns False after `_REACHED_S` seconds."""
        deadline = time.monotonic() + _REACHED_S
        while (now := self.revision(key)) < revision or (now and not revision):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True

    def _take(self, key: str, content: bytes | None) -> None:
        """Apply a value. Raises RouteTableError or ValueError if it is invalid; the previous value stays in use."""
        kind, *names = bus.parts(key)
        if kind == TABLE and content:
            self._rebase(parse(content, f"{BUCKET}/{TABLE}"))
        elif kind == ROUTE and len(names) == 1:
            override = Override.model_validate_json(content) if content else None
            self._overrides.put(names[0], override)
        elif kind == CANARY and len(names) == 1:
            self._core.decide(names[0], Verdict.model_validate_json(content) if content else None)
        elif kind == CACHE:
            self._core.forget()
