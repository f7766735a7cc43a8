"""Counts who uses a thing that is to be closed, such as the connections of a replaced login."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Use:
    """Number of tasks that use the thing."""

    def __init__(self) -> None:
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Context of one use. Enter it before the first wait, so that a thing that is chosen is not closed."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def ended(self) -> None:
        """Wait until nobody uses the thing."""
        await self._unused.wait()
