"""Checks a model's stream with Guardrails. A piece is released once it contains nothing to redact."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import grpc
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from kit import rpc
from kit.errors import ApiError, ErrorType
from kit.limits import GUARD_HELD

from router import sse
from router.guard import LARGE_BYTES, PATIENCE_S, Guard

if TYPE_CHECKING:
    from router.answer import Answer

_LATE = b"late"
"""In place of an event; known by its identity, which no event's bytes share, as those of an empty one would."""
_RESOLUTION_S = 0.001
"""The event loop's timers come so much early."""


class Guarded:
    """One stream's events, in order; one call to Guardrails for each text in it."""

    def __init__(self, guard: Guard, exchange: Answer) -> None:
        self._guard, self._exchange = guard, exchange
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._calls: dict[Hashable, Any] = {}
        self._held: dict[Hashable, str | None] = {}
        """What of each text Guardrails has and has not given back; None: not known, since it has changed something."""
        self._due: dict[Hashable, float] = {}
        """When what is held of a text has waited for long enough, by the event loop's clock."""
        self._room = GUARD_HELD.most
        self._status = 200
        self.ended = False
        self._task = exchange.core.start(self._run())

    # --- what the exchange calls ------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Whole events of the stream."""
        for event in sse.split(data):
            self._events.put_nowait(event)

    def end(self, data: bytes, status: int) -> None:
        """There is no more; the exchange is notified once all of it has gone on."""
        if self.ended:
            return
        self.ended, self._status = True, status
        self.feed(data)
        self._events.put_nowait(None)

    def cancel(self) -> None:
        """Nobody reads any more."""
        self.ended = True
        self._task.cancel()

    # --- the work ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        exchange = self._exchange
        try:
            while (event := await self._event()) is not None:
                if not await (self._overdue() if event is _LATE else self.one(event)):
                    return
            if await self.rest():
                exchange.guarded_end(self._status)
        except ApiError as error:
            exchange.guarded_break(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a fault of ours: what nobody has checked must not go on
            exchange.log_fault(error)
            exchange.guarded_break(ApiError(502, "The model's answer was interrupted.", ErrorType.UPSTREAM))
        finally:
            for call in self._calls.values():
                if call is not None:
                    call.cancel()

    async def _event(self) -> bytes | None:
        """The next event, or `_LATE` where a text has waited for long enough; None: there is no more."""
        due = min(self._due.values(), default=None)
        if due is not None and due <= asyncio.get_running_loop().time():
            return _LATE
        try:
            async with asyncio.timeout_at(due):
                return await self._events.get()
        except TimeoutError:
            return _LATE

    async def _overdue(self) -> bool:
        """Texts whose time has come go on, as far as they may."""
        now = asyncio.get_running_loop().time()
        for key in [key for key, due in self._due.items() if due <= now + _RESOLUTION_S]:
            del self._due[key]
            if not self.closed(key) and not await self.late(key):
                return False
        return True

    async def one(self, event: bytes) -> bool:
        """Whether the stream goes on after an event."""
        raise NotImplementedError

    async def flush(self, key: Any) -> bool:
        """What was held back of a text goes on; False: it must not, and the stream has ended."""
        raise NotImplementedError

    async def late(self, key: Any) -> bool:
        """A text's next piece does not come for now; False: what was held back of it must not go on."""
        raise NotImplementedError

    async def rest(self) -> bool:
        """The end of a stream that has not said so; False: something of it must not go on."""
        for key in list(self._calls):
            if not await self.flush(key):
                return False
        return True

    def send(self, *parts: bytes) -> None:
        """To the client."""
        self._exchange.guarded(b"".join(parts))

    def stop(self, *parts: bytes) -> None:
        """The end: nothing of the stream goes on after these."""
        self.ended = True
        self.send(*parts)
        self._exchange.guarded_stop()

    def hold(self, text: str) -> str:
        """A text that is kept until it can be checked as a whole. Raises ApiError(502) where there is too much."""
        self._room -= len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self._room < 0:
            message = f"The model calls tools with more than {GUARD_HELD.most:,} bytes."
            raise ApiError(502, message, ErrorType.UPSTREAM, code="content_too_large")
        return text

    async def whole(self, content: Any, known: set[str] | None = None) -> bool:
        """Check what comes at once, and redact it in place; False: it must not go on. Raises ApiError.

        `known`: texts that were checked before; those that go on now are added.
        """
        action = await self._guard.look(self._exchange, messages.DIRECTION_OUTPUT, content, known)
        return action != "block"

    async def look(
        self, key: Hashable, text: str, *, last: bool = False, late: bool = False, answer: bool = True
    ) -> tuple[str, bool]:
        """What of a piece goes on, and whether all so far may. `answer`: the output schema applies to this text."""
        exchange = self._exchange
        if key not in self._calls:
            metadata = rpc.carried(exchange.traceparent.decode())
            self._calls[key], self._held[key] = self._guard.stub.Stream(metadata=metadata), ""
        call, held = self._calls[key], self._held[key]
        if call is None:
            return text, True
        request = messages.StreamRequest(
            tenant=exchange.tenant.decode(),
            direction=messages.DIRECTION_OUTPUT,
            text=text.encode(errors="replace").decode(),
            last=last,
            late=late,
            other=not answer,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                await call.write(request)
                answered = await call.read()
            reason = "ended" if answered is grpc.aio.EOF else ""
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            answered, reason = None, error.code().name if isinstance(error, grpc.aio.AioRpcError) else "ended"
        except TimeoutError:
            answered, reason = None, grpc.StatusCode.DEADLINE_EXCEEDED.name
            call.cancel()
            if (size := len((held or "") + text)) > LARGE_BYTES:
                what = f"{size:,} characters of text could not be checked in time."
                raise self._guard.too_large(messages.DIRECTION_OUTPUT, what) from None
        if reason:
            self._due.pop(key, None)
            self._calls[key] = None  # nobody checks the rest either, if it may go on at all
            self._guard.unanswered(exchange, messages.DIRECTION_OUTPUT, reason)
            return (held or "") + text, True
        passed = answered.text
        known = held is not None and (held + text).startswith(passed)
        self._held[key] = (held + text)[len(passed) :] if known and held is not None else None
        if last or late or self._held[key] == "":
            self._due.pop(key, None)
        elif passed or key not in self._due:
            self._due[key] = asyncio.get_running_loop().time() + self._guard.late_s
        return passed, answered.action != messages.ACTION_BLOCK

    def closed(self, key: Hashable) -> bool:
        """Whether nothing of a text is held back: nobody checks it, or nobody answers."""
        return self._calls.get(key) is None

    def forget(self, key: Hashable) -> None:
        """A text has ended; what may still come under this key is checked anew."""
        self._calls.pop(key, None)
        self._due.pop(key, None)
