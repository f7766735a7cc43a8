"""Checks of whole texts: small ones at once, large ones beside, so that nobody waits for another tenant's text.

A large check runs in a thread of its own, in turns by tenant and one at a time for each, within a time limit. All of
its steps take time that grows with the text and no faster, and it gives up between them once its time has passed. A
process of its own would need the 165 MB that the detectors take once more.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kit.errors import ApiError
from kit.guard_policy import Direction
from kit.lanes import Lanes
from kit.limits import GUARD_TEXTS

from guardrails.guard import Guard, Verdict
from guardrails.policy import Compiled
from guardrails.recognizers import NotLoaded
from guardrails.scanner import OutOfTime

AT_ONCE = 16 * 1024
"""Characters that are checked at once, in the event loop: about 1 ms."""
LIMIT_S = 1.5
"""Of a large check. The Router waits 2 s."""
WAITING_EACH = 32
"""Large checks of one tenant that may wait."""
_SWITCH_S = 0.001
"""How long a large check may keep the interpreter before the event loop has its turn."""
Result = TypeVar("Result")
Check = tuple[Compiled, Direction, Sequence[str], frozenset[int]]


class Checker:
    """In front of the guard; belongs to one event loop."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._beside: Guard | None = None
        self._lanes = Lanes[tuple[str, asyncio.Future[None]]](1)
        self._thread = ThreadPoolExecutor(1, "large-checks")
        self._busy = False
        self._loaded = asyncio.Event()

    async def run(self) -> None:
        """Load what takes long beside the first requests; those that need it wait."""
        self._guard.load_later()
        await asyncio.to_thread(self._load)
        self._loaded.set()

    def _load(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        self._guard.load()

    async def at_once(self, work: Callable[[], Result]) -> Result:
        """What work in the event loop returns, once that what it needs is loaded."""
        while True:
            try:
                return work()
            except NotLoaded:
                await self._loaded.wait()

    async def check(
        self, tenant: str, policy: Compiled, direction: Direction, texts: Sequence[str], others: Sequence[int] = ()
    ) -> list[Verdict]:
        """What may go on of each text. Raises ApiError: 413 for too much text, 429 where too many checks wait."""
        size = sum(len(text) if text.isascii() else len(text.encode(errors="replace")) for text in texts)
        if size > GUARD_TEXTS.most:
            raise _too_large(f"{size:,} bytes of text; at most {GUARD_TEXTS.most:,} can be checked at once.")
        wanted: Check = (policy, direction, texts, frozenset(others))
        if size <= AT_ONCE:
            return await self.at_once(functools.partial(self._run, self._guard, wanted))
        if self._lanes.waiting_of(tenant) >= WAITING_EACH:
            raise ApiError(429, f"{WAITING_EACH} large checks of this tenant wait already.", code="busy")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lanes.put(tenant, (tenant, turn))
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._ended(tenant)
            self._lanes.drop(tenant, (tenant, turn))
            raise
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._large, wanted)
        running.add_done_callback(functools.partial(self._done, tenant))
        return await asyncio.shield(running)

    def close(self) -> None:
        """No check runs any more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        while not self._busy and (taken := self._lanes.take()) is not None:
            tenant, turn = taken
            if turn.cancelled():
                self._lanes.ended(tenant)
            else:
                self._busy = True
                turn.set_result(None)

    def _done(self, tenant: str, running: asyncio.Future[list[Verdict]]) -> None:
        if not running.cancelled():
            running.exception()  # whoever asked may be gone
        self._ended(tenant)

    def _ended(self, tenant: str) -> None:
        self._busy = False
        self._lanes.ended(tenant)
        self._next()

    def _large(self, wanted: Check) -> list[Verdict]:
        sys.setswitchinterval(_SWITCH_S)
        if self._beside is None:
            self._beside = self._guard.twin()
        self._beside.within(LIMIT_S)
        try:
            return self._run(self._beside, wanted)
        except OutOfTime:
            raise _too_large(f"text that takes longer than {LIMIT_S} s to check. Send less at once.") from None

    @staticmethod
    def _run(guard: Guard, wanted: Check) -> list[Verdict]:
        policy, direction, texts, others = wanted
        return [guard.check(text, policy, direction, answer=n not in others) for n, text in enumerate(texts)]


def _too_large(what: str) -> ApiError:
    return ApiError(413, f"The request has {what}", code="content_too_large")
