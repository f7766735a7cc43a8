"""Checks of whole texts: small ones at once, large ones beside, so that nobody waits for another tenant's text.

A large check runs in a worker process, in turns by tenant and one at a time for each, within a time limit: all of its
steps take time that grows with the text and no faster, and it gives up between them once its time has passed; a worker
that does not is killed. One worker is always ready, since the Router does not wait for the start of one; it takes 105
MB of its own, and up to 25 MB more for 1 MB of text that is full of findings.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from kit.errors import ApiError
from kit.guard_policy import Action, Direction
from kit.limits import GUARD_TEXTS
from kit.workers import JobFailed, Limits, OutOfTime, Workers

from guardrails import large
from guardrails.answers import Form, Outcome, outcome
from guardrails.guard import Guard
from guardrails.policy import Compiled
from guardrails.recognizers import NotLoaded

AT_ONCE = 16 * 1024
"""Characters that are checked at once, in the event loop: about 1 ms."""
LIMIT_S = 1.5
"""Of a large check. The Router waits 2 s."""
WAITING_EACH = 32
"""Large checks of one tenant that may wait."""
_KILLED = Limits(memory_mb=160, cpu_s=LIMIT_S + 0.3, wall_s=LIMIT_S + 0.3, input_mb=8, answer_mb=24)
"""A worker that needs more is ended."""
_SWITCH_S = 0.001
"""How long a thread may keep the interpreter before the event loop has its turn."""
Result = TypeVar("Result")


class Checker:
    """In front of the guard; belongs to one event loop."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._workers = Workers("guardrails", 1, _KILLED, preload=["guardrails.worker"], keep=1,
                                waiting_each=WAITING_EACH)  # fmt: skip
        self._loaded = asyncio.Event()
        self._running: set[asyncio.Task[Outcome]] = set()

    async def run(self) -> None:
        """Load what takes long beside the first requests, which wait where they need it; then keep a worker ready."""
        self._guard.load_later()
        await asyncio.to_thread(self._load)
        self._loaded.set()
        await self._workers.run()

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
        self,
        tenant: str,
        policy: Compiled,
        direction: Direction,
        texts: Sequence[str],
        others: Sequence[int] = (),
        *,
        form: Form = Form.REST,
    ) -> Outcome:
        """What may go on of each text. Raises ApiError: 413 for too much text, 429 where too many checks wait."""
        size = sum(len(text) if text.isascii() else len(text.encode(errors="replace")) for text in texts)
        if size > GUARD_TEXTS.most:
            raise _too_large(f"{size:,} bytes of text; at most {GUARD_TEXTS.most:,} can be checked at once.")
        if size <= AT_ONCE:
            work = functools.partial(large.checked, self._guard, policy, direction, texts, set(others))
            return outcome(await self.at_once(work), form)
        return await self.beside(tenant, policy, direction, texts, others, form=form)

    async def beside(
        self,
        tenant: str,
        policy: Compiled,
        direction: Direction,
        texts: Sequence[str],
        others: Sequence[int] = (),
        *,
        form: Form,
    ) -> Outcome:
        """The same in a worker, of any size that gRPC takes."""
        # Who asked may go; a worker that is ended for that would have to be started for the next one.
        asked = (policy.policy.model_dump_json(), direction.value, list(texts), set(others), form.value, LIMIT_S)
        running = asyncio.create_task(self._told(self._workers.call(tenant, large.check, *asked)))
        self._running.add(running)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are ready."""
        return self._workers.pids

    async def close(self) -> None:
        """No check runs any more."""
        await self._workers.close()

    def _done(self, running: asyncio.Task[Outcome]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # whoever asked may be gone

    @staticmethod
    async def _told(work: Awaitable[Outcome]) -> Outcome:
        try:
            action, kinds, content = await work
        except (JobFailed, OutOfTime) as error:
            if isinstance(error, JobFailed) and error.kind != "OutOfTime":
                raise
            raise _too_large(f"text that takes longer than {LIMIT_S} s to check. Send less at once.") from None
        return Outcome(Action(action), kinds, base64.b64decode(content))


def _too_large(what: str) -> ApiError:
    return ApiError(413, f"The request has {what}", code="content_too_large")
