"""The router's gRPC method. Calls take the same path through the router as REST requests."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import msgspec
from cogniforge.router.v1 import router_pb2 as messages
from cogniforge.router.v1 import router_pb2_grpc as service
from kit import rpc
from kit.errors import ApiError, ErrorType

from router import errors, payload, usage
from router.core import Core
from router.exchange import HTTP_OK, Exchange

_PASSED = ("authorization", "x-api-key", "x-client-id", "x-request-id")


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


class _Nobody:
    """Placeholder for the connection, which a gRPC call does not have."""

    def finished(self, keep_alive: bool) -> None:
        """Nobody waits for another answer."""


class Inside(Exchange):
    """A request of a service. Its answer is whole, and goes to who waits for `told`."""

    inside = True

    def __init__(self, core: Core, headers: dict[bytes, bytes], body: bytes) -> None:
        super().__init__(cast("Any", _Nobody()), core, payload.CHAT, headers)
        self.told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.feed(body)
        self.complete()
        self.start()

    def write(self, status: int, kind: bytes, body: bytes, extra: bytes) -> None:
        """A model's answer, or its refusal."""
        if status != HTTP_OK:
            self._fail(errors.refused(status, body, self.model, self.path_text))
        elif not self.told.done():
            self.told.set_result(body)

    def refuse(self, error: ApiError) -> None:
        """The router's refusal."""
        self._fail(error)
        self.finish(error.status)

    def leave(self) -> None:
        """Nobody waits any more."""
        self.disconnected = True
        self.set()

    def _fail(self, error: ApiError) -> None:
        if not self.told.done():
            self.told.set_exception(error)


class Calls(service.RouterServiceServicer):
    """For services."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def add(self, server: Any) -> None:
        """To a server."""
        service.add_RouterServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Chat(self, request: messages.ChatRequest) -> messages.ChatResponse:
        """Who is called for pays, and is held to their limits."""
        headers = {name.encode(): value.encode() for name in _PASSED if (value := rpc.metadata(name))}
        headers |= {name.encode(): value.encode() for name, value in rpc.carried()}
        exchange = Inside(self._core, headers, _body(request))
        try:
            body = await exchange.told
        except asyncio.CancelledError:
            exchange.leave()
            raise
        answer = _read(body)
        used = exchange.used or usage.of_answer(body) or (0, 0)  # a kept answer says what it once took
        return messages.ChatResponse(
            content=answer.message.content or "",
            finish_reason=answer.finish_reason or "",
            input_tokens=_count(used[0] or 0),
            output_tokens=_count(used[1] or 0),
        )


def _count(tokens: int) -> int:
    """As far as the message can say it: a target may tell anything."""
    return min(max(0, tokens), 2**32 - 1)


def _body(request: messages.ChatRequest) -> bytes:
    """What a client would have sent."""
    said = [{"role": message.role, "content": message.content} for message in request.messages]
    content: dict[str, Any] = {"model": request.model, "messages": said}
    if request.max_tokens:
        content["max_tokens"] = request.max_tokens
    if request.HasField("temperature"):
        content["temperature"] = request.temperature
    return msgspec.json.encode(content)


def _read(body: bytes) -> _Choice:
    """The answer in it. Raises ApiError."""
    try:
        return msgspec.json.decode(body, type=_Answer).choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        message = "The model's answer is not a valid chat completion."
        raise ApiError(502, message, ErrorType.UPSTREAM, code="upstream_error") from None
