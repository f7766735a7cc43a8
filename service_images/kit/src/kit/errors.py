"""The error envelope of every REST answer, which has OpenAI's format: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from kit import logs

log = logs.get("kit.errors")
CLIENT_GONE = 499
"""Status for a client that closed the connection before the answer. Source: nginx's convention."""


class ErrorType(StrEnum):
    """OpenAI's error types."""

    INVALID_REQUEST = "invalid_request_error"
    AUTHENTICATION = "authentication_error"
    PERMISSION = "permission_error"
    NOT_FOUND = "not_found_error"
    RATE_LIMIT = "rate_limit_error"
    SERVER = "server_error"
    UPSTREAM = "upstream_error"


class ApiError(Exception):
    """An error as the answer to a request."""

    def __init__(
        self,
        status: int,
        message: str,
        kind: ErrorType = ErrorType.INVALID_REQUEST,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """`retry_after_s`: seconds to wait before a retry, sent as Retry-After."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.challenge = ""
        """Value of the header WWW-Authenticate; empty omits the header."""
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code

    def envelope(self) -> dict[str, Any]:
        """Body of the answer."""
        body = {"message": self.message, "type": self.kind.value, "param": self.param, "code": self.code}
        return {"error": body}

    def response(self) -> JSONResponse:
        """The complete answer."""
        headers = {"retry-after": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        if self.challenge:
            headers["www-authenticate"] = self.challenge
        return JSONResponse(self.envelope(), status_code=self.status, headers=headers)


def missing(what: str) -> ApiError:
    """Error for an object that does not exist, or that belongs to another tenant."""
    return ApiError(404, f"The {what} does not exist.", ErrorType.NOT_FOUND, param=what)


def unavailable(who: str) -> ApiError:
    """Error for a service that is needed but unavailable. `who`: its name, such as "User" or "The Router"."""
    return ApiError(503, f"{who} is unavailable.", ErrorType.SERVER, code="unavailable")


_KINDS = {
    401: ErrorType.AUTHENTICATION,
    403: ErrorType.PERMISSION,
    404: ErrorType.NOT_FOUND,
    429: ErrorType.RATE_LIMIT,
}


async def on_api_error(_: Request, error: Exception) -> Response:
    """Handler for `ApiError`."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_http_exception(_: Request, error: Exception) -> Response:
    """Handler for the framework's own errors, such as an unknown path or method."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, ErrorType.INVALID_REQUEST)
    answer = ApiError(error.status_code, error.detail, kind).response()
    answer.headers.update(error.headers or {})
    return answer


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Handler for a client that disconnects before its request is complete. This is no server error."""
    return Response(status_code=CLIENT_GONE)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Handler for all other exceptions: logged in full, answered without details."""
    log.error("unexpected error", path=request.url.path, exc_info=error)
    return ApiError(500, "The server had an error while processing your request.", ErrorType.SERVER).response()


HANDLERS: Mapping[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = MappingProxyType(
    {
        ApiError: on_api_error,
        HTTPException: on_http_exception,
        ClientDisconnect: on_disconnect,
        Exception: on_unexpected,
    }
)
"""Exception handlers of an application, by exception."""
