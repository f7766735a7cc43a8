"""The error envelope of every REST answer, which is OpenAI's: `{"error": {message, type, param, code}}`."""

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
"""Status of a request whose client did not wait for the answer. Source: nginx's convention."""


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
    """An answer that is an error."""

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
        """`retry_after_s`: seconds after which the caller may ask again, in the answer's Retry-After."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.challenge = ""
        """WWW-Authenticate of the answer; empty: none."""
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code

    def envelope(self) -> dict[str, Any]:
        """The body of the answer."""
        body = {"message": self.message, "type": self.kind.value, "param": self.param, "code": self.code}
        return {"error": body}

    def response(self) -> JSONResponse:
        """The whole answer."""
        headers = {"retry-after": str(self.retry_after_s)} if self.retry_after_s is not None else {}
        if self.challenge:
            headers["www-authenticate"] = self.challenge
        return JSONResponse(self.envelope(), status_code=self.status, headers=headers)


def missing(what: str) -> ApiError:
    """The answer to who names what is not there, or is not theirs."""
    return ApiError(404, f"There is no such {what}.", ErrorType.NOT_FOUND, param=what)


def unavailable(who: str) -> ApiError:
    """The answer where somebody is needed who is away: "User", "The router"."""
    return ApiError(503, f"{who} does not answer now.", ErrorType.SERVER, code="unavailable")


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
    """Handler for a client that goes before its request is whole: no server is at fault, nobody reads the answer."""
    return Response(status_code=CLIENT_GONE)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Handler for everything else: logged in full, answered without details."""
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
"""What an application answers where a handler raises."""
