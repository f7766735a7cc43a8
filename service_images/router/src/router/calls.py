"""The Router's gRPC method. Calls take the same path through the Router as REST requests."""

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
        """No effect: no other request waits on the connection."""


class Inside(Exchange):
    """A request of a service. Its answer is not streamed, and completes the future `result`."""

    inside = True

    def __init__(self, core: Core, headers: dict[bytes, bytes], body: bytes) -> None:
        super().__init__(cast("Any", _Nobody()), core, payload.CHAT, headers)
        self.result: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.feed(body)
        self.complete()
        self.start()

    def write(self, status: int, kind: bytes, body: bytes, extra: bytes) -> None:
        """Complete the call with a model's answer or refusal."""
        if status != HTTP_OK:
            self._fail(errors.refused(status, body, self.model, self.path_text))
        elif not self.result.done():
            self.result.set_result(body)

    def refuse(self, error: ApiError) -> None:
        """Complete the call with the Router's refusal."""
        self._fail(error)
        self.finish(error.status)

    def leave(self) -> None:
        """The caller has gone."""
        self.disconnected = True
        self.set()

    def _fail(self, error: ApiError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Calls(service.RouterServiceServicer):
    """Implementation of the gRPC service."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def add(self, server: Any) -> None:
        """Register the method with a server."""
        service.add_RouterServiceServicer_to_server(self, server)  # pyright: ignore[reportUnknownMemberType]

    @rpc.answers
    async def Chat(self, request: messages.ChatRequest) -> messages.ChatResponse:
        """The request counts for the tenant on whose behalf the service calls, within that tenant's limits."""
        headers = {name.encode(): value.encode() for name in _PASSED if (value := rpc.metadata(name))}
        headers |= {name.encode(): value.encode() for name, value in rpc.carried()}
        exchange = Inside(self._core, headers, _body(request))
        try:
            body = await exchange.result
        except asyncio.CancelledError:
            exchange.leave()
            raise
        answer = _read(body)
        used = exchange.used or usage.of_answer(body) or (0, 0)  # a cached answer contains its original usage
        return messages.ChatResponse(
            content=answer.message.content or "",
            finish_reason=answer.finish_reason or "",
            input_tokens=_count(used[0] or 0),
            output_tokens=_count(used[1] or 0),
        )


def _count(tokens: int) -> int:
    """Limit to the range of the message's field, since a target may report any number."""
    return min(max(0, tokens), 2**32 - 1)


def _body(request: messages.ChatRequest) -> bytes:
    """The equivalent REST request."""
    said = [{"role": message.role, "content": message.content} for message in request.messages]
    content: dict[str, Any] = {"model": request.model, "messages": said}
    if request.max_tokens:
        content["max_tokens"] = request.max_tokens
    if request.HasField("temperature"):
        content["temperature"] = request.temperature
    return msgspec.json.encode(content)


def _read(body: bytes) -> _Choice:
    """The answer in the body. Raises ApiError."""
    try:
        return msgspec.json.decode(body, type=_Answer).choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        message = "The model's answer is not a valid chat completion."
        raise ApiError(502, message, ErrorType.UPSTREAM, code="upstream_error") from None
