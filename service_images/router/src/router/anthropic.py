"""Anthropic's Messages API on top of chat completions: translates requests, answers, streams and errors."""

from __future__ import annotations

from typing import Any

import msgspec
from kit.errors import ApiError

from router.anthropic_answer import answer
from router.anthropic_request import counted, request
from router.anthropic_schema import Counted, Request
from router.anthropic_stream import Stream

__all__ = ("PATH", "Counted", "Request", "Stream", "answer", "counted", "error", "request")

PATH = b"/v1/messages"
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
Json = dict[str, Any]


def error(failure: ApiError, request_id: str = "") -> bytes:
    """An error in Anthropic's envelope."""
    kind = _ERRORS.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    details: Json = {"type": kind, "message": failure.message}
    return msgspec.json.encode({"type": "error", "error": details, "request_id": request_id or None})
