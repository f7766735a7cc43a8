"""A stream of a model on its way through Guardrails: each piece goes on once nothing in it has to go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from kit import rpc
from kit.errors import ApiError

from router.guard import FILTERED, Guard, decode, encode

if TYPE_CHECKING:
    from router.exchange import Exchange

_END = b"\n\n"
_DONE = b"data: [DONE]\n\n"


class Guarded:
    """One stream's events, in order; one call to Guardrails for each of its choices."""

    def __init__(self, guard: Guard, exchange: Exchange) -> None:
        self._guard, self._exchange = guard, exchange
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._carry = b""
        self._calls: dict[int, Any] = {}
        self._last: dict[int, Any] = {}
        self._status = 200
        self.ended = False
        self._task = exchange.core.start(self._run())

    # --- what the exchange calls ------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """A piece of the stream."""
        data = self._carry + data
        *events, self._carry = data.split(_END)
        for event in events:
            if event.strip():
                self._events.put_nowait(event)

    def end(self, data: bytes, status: int) -> None:
        """There is no more; the exchange is told once all of it has gone on."""
        if self.ended:
            return
        self.ended, self._status = True, status
        self.feed(data)
        if self._carry.strip():
            self._events.put_nowait(self._carry)
        self._events.put_nowait(None)

    def cancel(self) -> None:
        """Nobody reads any more."""
        self.ended = True
        self._task.cancel()

    # --- the work ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        exchange = self._exchange
        try:
            while (event := await self._events.get()) is not None:
                if not await self._one(event):
                    return
            await self._rest()
            exchange.guarded_end(self._status)
        except ApiError as error:
            exchange.guarded_break(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a fault of ours: what nobody has looked at must not go on
            exchange.front.log_fault(exchange, error)
            exchange.guarded_break(ApiError(502, "The model's answer broke off."))
        finally:
            for call in self._calls.values():
                if call is not None:
                    call.cancel()

    async def _one(self, event: bytes) -> bool:
        """Whether the stream goes on."""
        line = next((part for part in event.split(b"\n") if part.startswith(b"data:")), b"")[5:].strip()
        if line == b"[DONE]":
            await self._rest()
            self._exchange.guarded(_DONE)
            return True
        try:
            content = decode(line)
            choices = content["choices"]
        except (ValueError, KeyError, TypeError):
            self._exchange.guarded(event + _END)  # an error, or a comment: no text of a model's
            return True
        changed = False
        for choice in choices:
            number = choice.get("index", 0)
            delta = choice.get("delta")
            holder, key = (delta, "content") if isinstance(delta, dict) else (choice, "text")
            text = holder.get(key)
            if isinstance(text, str) and text:
                self._last[number] = {**content, "choices": [{**choice, "finish_reason": None}]}
                passed, action = await self._look(number, text)
                if action == messages.ACTION_BLOCK:
                    self._block(content, number)
                    return False
                changed = changed or passed != text
                holder[key] = passed
            if choice.get("finish_reason") and not await self._flush(number):
                self._block(content, number)
                return False
        self._exchange.guarded(b"data: " + encode(content) + _END if changed else event + _END)
        return True

    async def _look(self, number: int, text: str, *, last: bool = False) -> tuple[str, Any]:
        """What of a piece goes on, and what is done about the whole so far."""
        exchange = self._exchange
        if number not in self._calls:
            metadata = rpc.carried(exchange.traceparent.decode())
            self._calls[number] = self._guard.stub.Stream(metadata=metadata)
        call = self._calls[number]
        if call is None:
            return text, messages.ACTION_ALLOW
        tenant = exchange.tenant.decode()
        try:
            await call.write(
                messages.StreamRequest(tenant=tenant, direction=messages.DIRECTION_OUTPUT, text=text, last=last)
            )
            answer = await call.read()
            reason = "ended" if answer is grpc.aio.EOF else ""
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            answer, reason = None, error.code().name if isinstance(error, grpc.aio.AioRpcError) else "ended"
        if reason:
            self._calls[number] = None  # nobody looks at the rest either, if it may go on at all
            self._guard.unanswered(exchange, messages.DIRECTION_OUTPUT, reason)
            return text, messages.ACTION_ALLOW
        return answer.text, answer.action

    async def _flush(self, number: int) -> bool:
        """What was held back of a choice goes on; False: it must not."""
        if self._calls.get(number) is None:
            return True
        text, action = await self._look(number, "", last=True)
        del self._calls[number]  # what may still come is looked at anew
        if action == messages.ACTION_BLOCK:
            return False
        if text:
            content = self._last[number]
            (choice,) = content["choices"]
            if isinstance(choice.get("delta"), dict):
                choice["delta"] = {"content": text}
            else:
                choice["text"] = text
            self._exchange.guarded(b"data: " + encode(content) + _END)
        return True

    async def _rest(self) -> None:
        """A stream that ends without saying so."""
        for number in list(self._calls):
            if not await self._flush(number):
                self._block(self._last[number], number)
                return

    def _block(self, content: dict[str, Any], number: int) -> None:
        """The end, as OpenAI's clients know it."""
        empty = {"index": number, "delta": {}, "finish_reason": FILTERED}
        last = {**content, "choices": [empty]}
        self.ended = True
        self._exchange.guarded(b"data: " + encode(last) + _END + _DONE)
        self._exchange.guarded_stop()
