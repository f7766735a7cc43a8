"""gRPC between services: a server next to the REST server, and channels that balance over the pods of a service.

`make protos` generates the messages from kit/protos. Each call has the caller's token for the callee (`kit.identity`),
without which the server refuses it. The mesh encrypts connections. Errors are gRPC status codes, derived from the same
`ApiError` as in REST.
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
"""Metadata key of an error's code, the one of the REST error envelope."""
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
"""Status codes of errors that the original caller can correct."""
_OPTIONS = [
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_send_message_length", _MAX_BYTES),
]


class Server:
    """gRPC server. It drains before it stops, and admits the configured callers only."""

    def __init__(self, settings: ServiceSettings, *add: Callable[[Any], None]) -> None:
        self._settings, self._add = settings, add
        self.callers = identity.Callers.of(settings)
        """Allowed callers."""
        self.port = 0
        """Port, once it listens."""

    async def check(self) -> str | None:
        """Readiness: None if calls can be served, otherwise the reason."""
        return await self.callers.check()

    async def run(self) -> None:
        """Run until cancelled. It listens once it can check tokens."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self.callers.run())
            await self.callers.ready()
            await self._serve()

    async def _serve(self) -> None:
        server = grpc.aio.server(options=_OPTIONS, interceptors=[_Door(self.callers)])
        for add in self._add:
            add(server)
        self.port = server.add_insecure_port(f"{self._settings.host}:{self._settings.rpc_port}")
        try:
            await server.start()
            await server.wait_for_termination()
        finally:
            await server.stop(5)  # running calls get a few seconds


class _Door(grpc.aio.ServerInterceptor):
    """Interceptor that checks callers of all methods."""

    def __init__(self, callers: identity.Callers) -> None:
        self._callers = callers
        self._lenient: dict[str, Any] = {}
        """Wrapped methods by name, cached, since grpc requests one at each call."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """The method, or a refusal instead."""
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
            if handler is None:  # unknown method: grpc itself answers
                return None
            known = handler._replace(request_deserializer=_lenient(handler.request_deserializer))
            self._lenient[handler_call_details.method] = known
        return known


def _lenient(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Deserializer that returns None for invalid bytes. grpc itself would report a server error with a traceback."""

    def read(content: bytes) -> Any:
        try:
            return deserialize(content)
        except DecodeError:
            return None

    return read


def _whole(request: Any) -> Any:
    """The request, if it is valid. Raises ApiError."""
    if request is None:
        raise ApiError(400, "The request is not a valid message of the method's type.", ErrorType.INVALID_REQUEST)
    return request


async def _all_whole(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _whole(request)


def _refusing(error: ApiError) -> Any:
    """Handler that refuses a call without reading it."""

    async def refuse(_: Any, context: Any) -> None:
        await _abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)


def answers(handler: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """Wrap a unary method: adds a span and error handling."""

    @functools.wraps(handler)
    async def method(self: Any, request: Any, context: Any) -> Any:
        _METADATA.set(_metadata_of(context))
        with _span(handler.__qualname__, _METADATA.get()):
            try:
                return await handler(self, _whole(request))
            except Exception as error:
                await _refuse(context, handler.__qualname__, error)

    return method


def streams(handler: Callable[[Any, Any], AsyncIterator[Any]]) -> Callable[[Any, Any, Any], AsyncIterator[Any]]:
    """Wrap a bidirectional streaming method."""

    @functools.wraps(handler)
    async def method(self: Any, requests: Any, context: Any) -> AsyncIterator[Any]:
        _METADATA.set(_metadata_of(context))
        with _span(handler.__qualname__, _METADATA.get()):
            try:
                async for answer in handler(self, _all_whole(requests)):
                    yield answer
            except Exception as error:
                await _refuse(context, handler.__qualname__, error)

    return method


async def _refuse(context: Any, method: str, error: Exception) -> None:
    """Abort a call with its error. Details of internal errors are not revealed."""
    if isinstance(error, ApiError):
        await _abort(context, error)
    log.error("unexpected error", method=method, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "The server had an error.")


async def _abort(context: Any, error: ApiError) -> None:
    trailers = ((_ERROR_CODE, error.code),) if error.code else ()
    await context.abort(_CODES.get(error.status, grpc.StatusCode.UNKNOWN), error.message, trailers)


def _metadata_of(context: Any) -> dict[str, str]:
    """Metadata of a call."""
    return {str(name): str(value) for name, value in context.invocation_metadata() or ()}


def _span(name: str, metadata: Mapping[str, str]) -> Any:
    parent = propagate.extract(metadata)
    return trace.get_tracer("kit").start_as_current_span(name, context=parent, kind=SpanKind.SERVER)


def channel(target: str) -> Any:
    """A channel to all pods of a service, round robin. Calls that a lost pod has not received go to another one."""
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
    """A stub for a service. Its channel belongs to the event loop of its first use."""

    def __init__(self, service: str, target: str, make: Callable[[Any], Any]) -> None:
        """`service`: name of the callee, the audience of the caller's token."""
        self._service, self._target, self._make = service, target, make
        self._channel: Any = None
        self._stub: Any = None

    @property
    def stub(self) -> Any:
        """The stub. Call this within the event loop."""
        if self._stub is None:
            self._channel = channel(self._target)
            self._stub = self._make(Identified(self._channel, self._service))
        return self._stub

    async def close(self) -> None:
        """Close the connections."""
        if self._channel is not None:
            await self._channel.close()


class Identified:
    """A channel for a stub that adds the caller's token for the service to all calls."""

    def __init__(self, channel: Any, service: str, tokens: identity.Tokens = identity.OWN) -> None:
        self._channel, self._service, self._tokens = channel, service, tokens

    def unary_unary(self, *args: Any, **more: Any) -> Any:
        """Unary call."""
        return self._with(self._channel.unary_unary(*args, **more))

    def stream_stream(self, *args: Any, **more: Any) -> Any:
        """Bidirectional streaming call."""
        return self._with(self._channel.stream_stream(*args, **more))

    def _with(self, method: Any) -> Any:
        def call(*args: Any, metadata: tuple[tuple[str, str], ...] = (), **more: Any) -> Any:
            return method(*args, metadata=(*metadata, *self._tokens.metadata(self._service)), **more)

        return call


def metadata(name: str) -> str:
    """Metadata value of the current call; empty if there is none."""
    return _METADATA.get().get(name, "")


def refused(error: grpc.aio.AioRpcError, who: str) -> ApiError:
    """The error for this service's caller, after another service has refused a call on the caller's behalf."""
    status, code = _STATUSES.get(error.code()), _error_code(error)
    if status is None or code == identity.CODE:
        return unavailable(who)
    return ApiError(status, error.details() or f"{who} has refused.", ErrorType.UPSTREAM, code=code)


def stranger(error: grpc.aio.AioRpcError) -> bool:
    """Whether the callee has refused this service itself, not the user that it acts for."""
    return _error_code(error) == identity.CODE


def _error_code(error: grpc.aio.AioRpcError) -> str | None:
    return next((str(value) for name, value in error.trailing_metadata() or () if name == _ERROR_CODE), None)


def key() -> str:
    """API key of the original caller of the current call; empty if there is none."""
    value = metadata("authorization")
    return value[7:].strip() if value[:7].lower() == "bearer " else ""


def carried(traceparent: str = "") -> tuple[tuple[str, str], ...]:
    """Metadata of a call with its trace."""
    if traceparent:
        return (("traceparent", traceparent),)
    found: dict[str, str] = {}
    propagate.inject(found)
    return tuple(found.items())
