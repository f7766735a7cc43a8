"""Checks a model's stream with Guardrails. A piece is released once it contains nothing to redact."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import grpc
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from kit.errors import ApiError, ErrorType
from kit.limits import GUARD_HELD

from router import sse
from router.guard import LARGE_BYTES, PATIENCE_S, Guard, carried, decided, word_of

if TYPE_CHECKING:
    from router.answer import Answer

_LATE = b"late"
"""Placeholder for an event. It is compared by identity, since an empty event would have equal bytes."""
_RESOLUTION_S = 0.001
"""Seconds by which timers of the event loop may fire early."""


class Guarded:
    """The events of one stream in order, with one call to Guardrails per text."""

    def __init__(self, guard: Guard, exchange: Answer) -> None:
        self._guard, self._exchange = guard, exchange
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._calls: dict[Hashable, Any] = {}
        self._held: dict[Hashable, str | None] = {}
        """Text that Guardrails has received but not returned yet, by text; None if unknown, because it was redacted."""
        self._due: dict[Hashable, float] = {}
        """Time of the event loop at which held-back text is overdue, by text."""
        self._room = GUARD_HELD.most
        self._status = 200
        self.ended = False
        self._task = exchange.core.start(self._run())

    # --- called by the exchange -------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Receive complete events of the stream."""
        for event in sse.split(data):
            self._events.put_nowait(event)

    def end(self, data: bytes, status: int) -> None:
        """The stream has ended. The exchange is notified once all of it was forwarded."""
        if self.ended:
            return
        self.ended, self._status = True, status
        self.feed(data)
        self._events.put_nowait(None)

    def cancel(self) -> None:
        """The client has gone."""
        self.ended = True
        self._task.cancel()

    # --- processing -------------------------------------------------------------------------------

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
        except Exception as error:  # internal error: unchecked text must not be forwarded
            exchange.log_fault(error)
            exchange.guarded_break(ApiError(502, "The model's answer was interrupted.", ErrorType.UPSTREAM))
        finally:
            for call in self._calls.values():
                if call is not None:
                    call.cancel()

    async def _event(self) -> bytes | None:
        """The next event; `_LATE` if held-back text is overdue; None at the end."""
        due = min(self._due.values(), default=None)
        if due is not None and due <= asyncio.get_running_loop().time():
            return _LATE
        try:
            async with asyncio.timeout_at(due):
                return await self._events.get()
        except TimeoutError:
            return _LATE

    async def _overdue(self) -> bool:
        """Release overdue text, as far as allowed. Returns False if the stream was ended."""
        now = asyncio.get_running_loop().time()
        for key in [key for key, due in self._due.items() if due <= now + _RESOLUTION_S]:
            del self._due[key]
            if not self.closed(key) and not await self.late(key):
                return False
        return True

    async def one(self, event: bytes) -> bool:
        """Process an event. Returns False if the stream was ended."""
        raise NotImplementedError

    async def flush(self, key: Any) -> bool:
        """Release the held-back part of a text. Returns False if the stream was ended."""
        raise NotImplementedError

    async def late(self, key: Any) -> bool:
        """Release the held-back part of a delayed text. Returns False if that is not allowed."""
        raise NotImplementedError

    async def rest(self) -> bool:
        """Process the end of a stream without a final event. Returns False if a part must not be forwarded."""
        for key in list(self._calls):
            if not await self.flush(key):
                return False
        return True

    def send(self, *parts: bytes) -> None:
        """Send to the client."""
        self._exchange.guarded(b"".join(parts))

    def stop(self, *parts: bytes) -> None:
        """Send final parts. Nothing of the stream is forwarded afterwards."""
        self.ended = True
        self.send(*parts)
        self._exchange.guarded_stop()

    def hold(self, text: str) -> str:
        """Hold a text until it can be checked as a whole. Raises ApiError(502) if it is too large."""
        self._room -= len(text) if text.isascii() else len(text.encode(errors="replace"))
        if self._room < 0:
            message = f"The model calls tools with more than {GUARD_HELD.most:,} bytes."
            raise ApiError(502, message, ErrorType.UPSTREAM, code="content_too_large")
        return text

    async def whole(self, content: Any, known: set[str] | None = None) -> bool:
        """Check a complete content and redact it in place. Returns False if it is blocked. Raises ApiError.

        `known`: texts that were checked already; forwarded texts are added.
        """
        action = await self._guard.look(self._exchange, messages.DIRECTION_OUTPUT, content, known)
        return action != "block"

    async def look(
        self, key: Hashable, text: str, *, last: bool = False, late: bool = False, answer: bool = True
    ) -> tuple[str, bool]:
        """(part of a piece to forward, whether the text is still allowed). `answer`: the output schema applies."""
        exchange = self._exchange
        if key not in self._calls:
            self._calls[key], self._held[key] = self._guard.stub.Stream(metadata=carried(exchange)), ""
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
            self._calls[key] = None  # the rest is not checked either, if the stream continues
            self._guard.unanswered(exchange, messages.DIRECTION_OUTPUT, reason)
            return (held or "") + text, True
        passed = answered.text
        known = held is not None and (held + text).startswith(passed)
        self._held[key] = (held + text)[len(passed) :] if known and held is not None else None
        if last or late or self._held[key] == "":
            self._due.pop(key, None)
        elif passed or key not in self._due:
            self._due[key] = asyncio.get_running_loop().time() + self._guard.late_s
        decided(exchange, "output", word_of(answered.action))
        return passed, answered.action != messages.ACTION_BLOCK

    def closed(self, key: Hashable) -> bool:
        """Whether nothing of a text is held back, because checks are off or Guardrails is unavailable."""
        return self._calls.get(key) is None

    def forget(self, key: Hashable) -> None:
        """A text has ended; further pieces with this key belong to a new text."""
        self._calls.pop(key, None)
        self._due.pop(key, None)
