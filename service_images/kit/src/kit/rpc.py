"""gRPC between services: a server beside the REST one, and channels that follow the pods behind a name.

The messages are made from kit/protos by `make protos`. Each call carries the caller's token for the callee
(`kit.identity`), and a server lets nobody in without; between services the mesh encrypts. Errors are gRPC's own codes,
made from the same `ApiError` as those of REST.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

from kit import identity, logs
from kit.errors import ApiError, ErrorType, unavailable
from kit.limits import RPC_MESSAGE
from kit.settings import ServiceSettings

log = logs.get("kit.rpc")
_METADATA: ContextVar[Mapping[str, str]] = ContextVar("metadata", default=MappingProxyType({}))
_ERROR_CODE = "error-code"
"""Metadata of a refusal: its code for programs, as in REST's envelope."""
_MAX_BYTES = RPC_MESSAGE.most
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.OUT_OF_RANGE,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_STATUSES = {_CODES[status]: status for status in (400, 401, 403, 404, 413, 429)}
"""Refusals that the caller's own caller can mend."""
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
]


class Server:
    """Runs beside the REST operations; drains when it is told to stop. Only the configured callers are let in."""

    def __init__(self, settings: ServiceSettings, *add: Callable[[Any], None]) -> None:
        self._settings, self._add = settings, add
        self.callers = identity.Callers.of(settings)
        """Who is let in."""
        self.port = 0
        """Where it listens, once it does."""

    async def check(self) -> str | None:
        """Readiness: calls cannot be answered yet."""
        return await self.callers.check()

    async def run(self) -> None:
        """Until it is cancelled. It listens once it can tell callers from strangers."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self.callers.run())
            await self.callers.ready()
            await self._serve()

    async def _serve(self) -> None:
        server = grpc.aio.server(options=_OPTIONS, interceptors=[_Door(self.callers)])
        for add in self._add:
            add(server)
        self.port = server.add_insecure_port(f"{self._settings.host}:{self._settings.rpc_port}")
        await server.start()
        try:
            await server.wait_for_termination()
        finally:
            await server.stop(5)  # calls under way have a few seconds


class _Door(grpc.aio.ServerInterceptor):
    """In front of every method, those included that a service adds later."""

    def __init__(self, callers: identity.Callers) -> None:
        self._callers = callers
        self._lenient: dict[str, Any] = {}
        """Methods that were called, by name: grpc asks for one at each call."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The method, or a refusal in its place."""
        token = ""
        for name, value in handler_call_details.invocation_metadata:
            if name == identity.HEADER:
                token = value
                break
        if not self._callers.known(token):
            try:
                await self._callers.admit(token)
            except ApiError as error:
                return _refusing(error)
        known = self._lenient.get(handler_call_details.method)
        if known is None:
            handler = await continuation(handler_call_details)
            if handler is None:  # there is no such method, which grpc says itself
                return None
            known = handler._replace(request_deserializer=_lenient(handler.request_deserializer))
            self._lenient[handler_call_details.method] = known
        return known


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """None for bytes that are no message. Left to grpc, they end the call as a fault of the server, with a traceback
    in its log."""

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except DecodeError:
            return None

    return read


def _whole(request: Any) -> Any:
    """A request that is a message. Raises ApiError."""
    if request is None:
        raise ApiError(400, "The request is no message of the method's type.", ErrorType.INVALID_REQUEST)
    return request


async def _all_whole(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _whole(request)


def _refusing(error: ApiError) -> Any:
    """Reads nothing of the call, whatever kind it is of."""

    async def refuse(_: Any, context: Any) -> None:
        await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


def answers(handler: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """A method of one question and one answer: within a span, with errors that say what is wrong."""

    @functools.wraps(handler)
    async def method(self: Any, request: Any, context: Any) -> Any:
        _METADATA.set(_told(context))
        with _span(handler.__qualname__, _METADATA.get()):
            try:
                return await handler(self, _whole(request))
            except Exception as error:
                await _refuse(context, handler.__qualname__, error)

    return method


def streams(handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any, Any], AsyncIterator[Any]]:
    """A method of many questions and many answers."""

    @functools.wraps(handler)
    async def method(self: Any, requests: Any, context: Any) -> AsyncIterator[Any]:
        with _span(handler.__qualname__, _told(context)):
            try:
                async for answer in handler(self, _all_whole(requests)):
                    yield answer
            except Exception as error:
                await _refuse(context, handler.__qualname__, error)

    return method


async def _refuse(context: Any, method: str, error: Exception) -> None:
    """What is wrong with the call; of a fault of ours, no more than that there was one."""
    if isinstance(error, ApiError):
        await _abort(context, error)
    log.error("unexpected error", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "The server had an error.")


async def _abort(context: Any, error: ApiError) -> None:
    told = ((_ERROR_CODE, error.code),) if error.code else ()
    await context.abort(_CODES.get(error.status, grpc.StatusCode.UNKNOWN), error.message, told)


def _told(context: Any) -> dict[str, str]:
    """What came with a call."""
    return {str(name): str(value) for name, value in context.invocation_metadata() or ()}


def _span(name: str, told: Mapping[str, str]) -> Any:
    parent = propagate.extract(told)
    return trace.get_tracer("kit").start_as_current_span(name, context=parent, kind=SpanKind.SERVER)


def channel(target: str) -> Any:
    """To all pods behind a name, in turn; what a pod that is gone has not taken is sent to another."""
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.5s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config = {"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": retry}]}
    return grpc.aio.insecure_channel(
        f"dns:///{target}", options=[*_OPTIONS, ("grpc.service_config", json.dumps(config))]
    )


class Client:
    """A service's stub; its channel belongs to the loop in which it is first used."""

    def __init__(self, service: str, target: str, make: Callable[[Any], Any]) -> None:
        """`service` is the callee's name, which the caller's token is for."""
        self._service, self._target, self._make = service, target, make
        self._channel: Any = None
        self._stub: Any = None

    @property
    def stub(self) -> Any:
        """To be asked for within the loop."""
        if self._stub is None:
            self._channel = channel(self._target)
            self._stub = self._make(Identified(self._channel, self._service))
        return self._stub

    async def close(self) -> None:
        """Give connections back."""
        if self._channel is not None:
            await self._channel.close()


class Identified:
    """A channel to a service, for a stub: its calls carry the caller's token for that service."""

    def __init__(self, channel: Any, service: str, tokens: identity.Tokens = identity.OWN) -> None:
        self._channel, self._service, self._tokens = channel, service, tokens

    def unary_unary(self, *args: Any, **more: Any) -> Any:
        """One question, one answer."""
        return self._with(self._channel.unary_unary(*args, **more))

    def stream_stream(self, *args: Any, **more: Any) -> Any:
        """Many of both."""
        return self._with(self._channel.stream_stream(*args, **more))

    def _with(self, method: Any) -> Any:
        def call(*args: Any, metadata: tuple[tuple[str, str], ...] = (), **more: Any) -> Any:
            return method(*args, metadata=(*metadata, *self._tokens.metadata(self._service)), **more)

        return call


def metadata(name: str) -> str:
    """What came with the call that is being answered; empty: nothing of this name."""
    return _METADATA.get().get(name, "")


def refused(error: grpc.aio.AioRpcError, who: str) -> ApiError:
    """What to tell one's own caller where a service has refused what it was asked in their name."""
    status, code = _STATUSES.get(error.code()), _error_code(error)
    if status is None or code == identity.CODE:
        return unavailable(who)
    return ApiError(status, error.details() or f"{who} has refused.", ErrorType.UPSTREAM, code=code)


def stranger(error: grpc.aio.AioRpcError) -> bool:
    """Whether a service has refused this one itself, whoever the call was made for."""
    return _error_code(error) == identity.CODE


def _error_code(error: grpc.aio.AioRpcError) -> str | None:
    return next((str(value) for name, value in error.trailing_metadata() or () if name == _ERROR_CODE), None)


def key() -> str:
    """The API key of whom the call is made for that is being answered; empty: it came without."""
    value = metadata("authorization")
    return value[7:].strip() if value[:7].lower() == "bearer " else ""


def carried(traceparent: str = "") -> tuple[tuple[str, str], ...]:
    """Metadata that goes with a call: the trace that it belongs to."""
    if traceparent:
        return (("traceparent", traceparent),)
    found: dict[str, str] = {}
    propagate.inject(found)
    return tuple(found.items())
