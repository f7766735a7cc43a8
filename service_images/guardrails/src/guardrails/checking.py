"""Checks of whole texts: small ones in the event loop, large ones in workers, so that tenants do not block each other.

A large check runs in a worker process with a time limit. Tenants take turns, with one check each at a time. All steps
take linear time, and the check stops between steps when its time is up; otherwise the worker is killed. One worker is
always ready, since the Router does not wait for a start. It takes 105 MB, and up to 25 MB more for 1 MB of text that is
full of findings.
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
"""Most characters that are checked in the event loop, which takes about 1 ms."""
LIMIT_S = 1.5
"""Time limit of a large check in seconds. The Router waits 2 s."""
WAITING_EACH = 32
"""Most waiting large checks per tenant."""
_KILLED = Limits(memory_mb=160, cpu_s=LIMIT_S + 0.3, wall_s=LIMIT_S + 0.3, input_mb=8, answer_mb=24)
"""Memory limit of a worker in MB."""
_SWITCH_S = 0.001
"""Seconds that a thread may hold the interpreter before the event loop runs."""
Result = TypeVar("Result")


class Checker:
    """Schedules checks. Belongs to one event loop."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._workers = Workers("guardrails", 1, _KILLED, preload=["guardrails.worker"], keep=1,
                                waiting_each=WAITING_EACH)  # fmt: skip
        self._loaded = asyncio.Event()
        self._running: set[asyncio.Task[Outcome]] = set()

    async def run(self) -> None:
        """Load slow parts in the background; requests that need them wait. Then keep a worker ready."""
        self._guard.load_later()
        await asyncio.to_thread(self._load)
        self._loaded.set()
        await self._workers.run()

    def _load(self) -> None:
        sys.setswitchinterval(_SWITCH_S)
        self._guard.load()

    async def at_once(self, work: Callable[[], Result]) -> Result:
        """Result of work in the event loop, after the parts that it needs are loaded."""
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
        """Check texts. Raises ApiError: 413 for too much text, 429 if too many checks are waiting."""
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
        """Check texts in a worker, up to the size limit of gRPC."""
        # A cancelled caller does not cancel the check, since a killed worker would have to be restarted.
        asked = (policy.policy.model_dump_json(), direction.value, list(texts), set(others), form.value, LIMIT_S)
        running = asyncio.create_task(self._outcome(self._workers.call(tenant, large.check, *asked)))
        self._running.add(running)
        running.add_done_callback(self._done)
        return await asyncio.shield(running)

    @property
    def pids(self) -> list[int]:
        """Process IDs of idle workers."""
        return self._workers.pids

    async def close(self) -> None:
        """Stop all checks."""
        await self._workers.close()

    def _done(self, running: asyncio.Task[Outcome]) -> None:
        self._running.discard(running)
        if not running.cancelled():
            running.exception()  # mark as retrieved: the caller may be gone

    @staticmethod
    async def _outcome(work: Awaitable[Outcome]) -> Outcome:
        try:
            action, kinds, content = await work
        except (JobFailed, OutOfTime) as error:
            if isinstance(error, JobFailed) and error.kind != "OutOfTime":
                raise
            raise _too_large(f"text that takes longer than {LIMIT_S} s to check. Send less at once.") from None
        return Outcome(Action(action), kinds, base64.b64decode(content))


def _too_large(what: str) -> ApiError:
    return ApiError(413, f"The request has {what}", code="content_too_large")
