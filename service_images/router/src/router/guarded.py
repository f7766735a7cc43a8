"""A stream of a model on its way through Guardrails: each piece goes on once nothing in it has to go."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import grpc
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from kit import rpc
from kit.errors import ApiError

from router import sse
from router.guard import FILTERED, Guard, decode, encode

if TYPE_CHECKING:
    from router.exchange import Exchange

END = sse.END
_DONE = sse.event(sse.DONE)


class Guarded:
    """One stream's events, in order; one call to Guardrails for each text in it."""

    def __init__(self, guard: Guard, exchange: Exchange) -> None:
        self._guard, self._exchange = guard, exchange
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._calls: dict[Hashable, Any] = {}
        self._held: dict[Hashable, str | None] = {}
        """What of each text Guardrails has and has not given back; None: not known, since it has changed something."""
        self._status = 200
        self.ended = False
        self._task = exchange.core.start(self._run())

    # --- what the exchange calls ------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Whole events of the stream."""
        for event in sse.split(data):
            self._events.put_nowait(event)

    def end(self, data: bytes, status: int) -> None:
        """There is no more; the exchange is told once all of it has gone on."""
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
            while (event := await self._events.get()) is not None:
                if not await self.one(event):
                    return
            if await self.rest():
                exchange.guarded_end(self._status)
        except ApiError as error:
            exchange.guarded_break(error)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a fault of ours: what nobody has looked at must not go on
            exchange.log_fault(error)
            exchange.guarded_break(ApiError(502, "The model's answer broke off."))
        finally:
            for call in self._calls.values():
                if call is not None:
                    call.cancel()

    async def one(self, event: bytes) -> bool:
        """Whether the stream goes on after an event."""
        raise NotImplementedError

    async def flush(self, key: Any) -> bool:
        """What was held back of a text goes on; False: it must not, and the stream has ended."""
        raise NotImplementedError

    async def rest(self) -> bool:
        """A stream that ends without saying so; False: something of it must not go on."""
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

    async def look(self, key: Hashable, text: str, *, last: bool = False) -> tuple[str, bool]:
        """What of a piece goes on, and whether all so far may."""
        exchange = self._exchange
        if key not in self._calls:
            metadata = rpc.carried(exchange.traceparent.decode())
            self._calls[key], self._held[key] = self._guard.stub.Stream(metadata=metadata), ""
        call, held = self._calls[key], self._held[key]
        if call is None:
            return text, True
        request = messages.StreamRequest(
            tenant=exchange.tenant.decode(), direction=messages.DIRECTION_OUTPUT, text=text, last=last
        )
        try:
            await call.write(request)
            answer = await call.read()
            reason = "ended" if answer is grpc.aio.EOF else ""
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            answer, reason = None, error.code().name if isinstance(error, grpc.aio.AioRpcError) else "ended"
        if reason:
            self._calls[key] = None  # nobody looks at the rest either, if it may go on at all
            self._guard.unanswered(exchange, messages.DIRECTION_OUTPUT, reason)
            return (held or "") + text, True
        passed = answer.text
        known = held is not None and (held + text).startswith(passed)
        self._held[key] = (held + text)[len(passed) :] if known and held is not None else None
        return passed, answer.action != messages.ACTION_BLOCK

    def closed(self, key: Hashable) -> bool:
        """Whether nothing of a text is held back: nobody looks at it, or nobody answers."""
        return self._calls.get(key) is None

    def forget(self, key: Hashable) -> None:
        """A text has ended; what may still come under this key is looked at anew."""
        self._calls.pop(key, None)


class GuardedChat(Guarded):
    """Chat completions, and completions: a text for each choice and for the arguments of each call of a tool."""

    def __init__(self, guard: Guard, exchange: Exchange) -> None:
        super().__init__(guard, exchange)
        self._last: dict[Any, Any] = {}

    async def one(self, event: bytes) -> bool:
        """A chunk."""
        line = data_of(event)
        if line == b"[DONE]":
            if await self.rest():
                self.send(_DONE)
                return True
            return False
        try:
            content = decode(line)
            choices = content["choices"]
        except (ValueError, KeyError, TypeError):
            self.send(event, END)  # an error, or a comment: no text of a model's
            return True
        changed = False
        for choice in choices:
            for key, holder, field in _texts(choice):
                text = holder[field]
                self._last[key] = {**content, "choices": [{**choice, "finish_reason": None}]}
                passed, going_on = await self.look(key, text)
                if not going_on:
                    self._block(content, key[0])
                    return False
                changed = changed or passed != text
                holder[field] = passed
            if choice.get("finish_reason"):
                for key in [key for key in self._calls if isinstance(key, tuple) and key[0] == choice.get("index", 0)]:
                    if not await self.flush(key):
                        return False
        self.send(b"data: ", encode(content), END) if changed else self.send(event, END)
        return True

    async def flush(self, key: Any) -> bool:
        """As a chunk of its own."""
        if self.closed(key):
            return True
        text, going_on = await self.look(key, "", last=True)
        self.forget(key)
        content = self._last[key]
        if not going_on:
            self._block(content, key[0])
            return False
        if text:
            number, tool = key
            choice = {"index": number, "finish_reason": None}
            if tool is not None:
                calls = [{"index": tool, "function": {"arguments": text}}]
                choice["delta"] = {"tool_calls": calls}
            elif isinstance(content["choices"][0].get("delta"), dict):
                choice["delta"] = {"content": text}
            else:
                choice["text"] = text
            self.send(b"data: ", encode({**content, "choices": [choice]}), END)
        return True

    def _block(self, content: dict[str, Any], number: int) -> None:
        """As OpenAI's clients know it."""
        empty = {"index": number, "delta": {}, "finish_reason": FILTERED}
        self.stop(b"data: ", encode({**content, "choices": [empty]}), END, _DONE)


def data_of(event: bytes) -> bytes:
    """What a server-sent event tells; empty: nothing."""
    return (sse.data(event) or b"").strip()


def _texts(choice: Any) -> list[tuple[tuple[int, int | None], Any, str]]:
    """Every text of a choice: its key, and where it is."""
    number, delta = choice.get("index", 0), choice.get("delta")
    if not isinstance(delta, dict):
        return [((number, None), choice, "text")] if choice.get("text") else []
    found: list[tuple[tuple[int, int | None], Any, str]] = []
    if isinstance(delta.get("content"), str) and delta["content"]:
        found.append(((number, None), delta, "content"))
    for place, call in enumerate(delta.get("tool_calls") or ()):
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and function.get("arguments"):
            found.append(((number, call.get("index", place)), function, "arguments"))
    return found
