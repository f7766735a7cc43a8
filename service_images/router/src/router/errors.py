"""Errors in OpenAI's format, of the Router and of upstreams. Each has a message, a type and a code."""

from __future__ import annotations

from typing import Any

import msgspec
from kit.errors import ApiError, ErrorType

_KINDS = {
    401: ErrorType.AUTHENTICATION,
    403: ErrorType.PERMISSION,
    404: ErrorType.NOT_FOUND,
    429: ErrorType.RATE_LIMIT,
}
_CODES = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}
_LONGEST = 4096
"""Maximum characters of an upstream's message that are forwarded."""


def envelope(error: ApiError) -> dict[str, Any]:
    """Body of the error. It always has a code, since clients decide by it."""
    code = error.code or _CODES.get(error.status, "server_error" if error.status >= 500 else "invalid_request")
    return {"error": {"message": error.message, "type": error.kind.value, "param": error.param, "code": code}}


def refused(status: int, body: bytes, model: str, path: str) -> ApiError:
    """An upstream's refusal of a request, in any format: vLLM's codes are numbers.

    A 404 of the upstream means that its model does not support the path, because a route for the model exists.
    """
    try:
        found: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        found = None
    details: Any = found.get("error", found) if isinstance(found, dict) else found
    if isinstance(details, str):
        details = {"message": details}
    if not isinstance(details, dict):
        details = {}
    message = next((details[name] for name in ("message", "detail") if isinstance(details.get(name), str)), "")
    if status in (404, 405):
        message = f"The model `{model}` does not serve {path}: {message or 'not found'}"[:_LONGEST]
        return ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_supported")
    param, code = details.get("param"), details.get("code")
    return ApiError(
        status,
        message[:_LONGEST] or "The model refused the request.",
        _KINDS.get(status, ErrorType.INVALID_REQUEST),
        param=param if isinstance(param, str) and param else None,
        code=code if isinstance(code, str) and code else "upstream_refused",
    )
