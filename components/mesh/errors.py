"""The gateway's own errors, in the format of the vendor's API that was called."""

from __future__ import annotations

from dataclasses import dataclass

ANTHROPIC_PREFIX = "/v1/messages"
"""Path prefix of Anthropic's API. Requests below it, or with the header below, get Anthropic's error format."""
ANTHROPIC_HEADER = "anthropic-version"
DEFAULT_CODE = "gateway_error"


@dataclass(frozen=True)
class GatewayError:
    """An error of the gateway itself. Sources: both vendors' documentation of errors, as of 2026-10."""

    status: int
    code: str
    """OpenAI's `code`, which programs compare."""
    kind: str
    """OpenAI's `type`."""
    anthropic_kind: str
    """Anthropic's `type`."""
    message: str
    retry_after_s: int | None = None


def _caller(status: int, code: str, message: str, anthropic_kind: str = "invalid_request_error") -> GatewayError:
    return GatewayError(status, code, "invalid_request_error", anthropic_kind, message)


def _ours(status: int, code: str, message: str, retry_after_s: int | None = None) -> GatewayError:
    kind = "timeout_error" if status == 504 else "api_error"
    return GatewayError(status, code, "server_error", kind, message, retry_after_s)


ENCODED_PATH = _caller(
    400,
    "invalid_path",
    "The path contains an encoded slash or backslash, which is not allowed here. Names with a slash are allowed under "
    "/v1/prompts, /v1/models and /api/public/v2/prompts.",
)
"""Not part of the table, because another error has status 400, too."""
UNDECIDED = _ours(
    503,
    "policy_undecided",
    "The gateway could not find out in time whether this request is allowed. No rule has denied it; try again.",
    1,
)
"""Not part of the table, because another error has status 503, too."""
ERRORS = (
    _caller(400, "bad_request", "The request is not valid HTTP."),
    _caller(401, "invalid_api_key", "The API key is missing or wrong.", "authentication_error"),
    _caller(403, "forbidden", "The gateway does not allow this request.", "permission_error"),
    _caller(404, "unknown_url", "The path does not exist. GET / lists the documents of the API.", "not_found_error"),
    _caller(408, "request_timeout", "The request was not received completely in time.", "timeout_error"),
    _caller(413, "request_too_large", "The body is larger than this path allows.", "request_too_large"),
    _caller(426, "upgrade_required", "The gateway supports HTTP/1.1 and HTTP/2."),
    GatewayError(
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
        "rate_limit_error",
        "Too many requests. Wait for the number of seconds in the header retry-after, then try again.",
        retry_after_s=1,
    ),
    _caller(431, "headers_too_large", "The request has more than 100 headers, or more than 60 KiB of headers."),
    _ours(500, "internal_error", "The gateway had an internal error."),
    _ours(502, "bad_gateway", "The service behind the gateway interrupted its answer."),
    _ours(503, "service_unavailable", "The service behind the gateway is unreachable or overloaded.", 1),
    _ours(504, "gateway_timeout", "The service behind the gateway did not answer in time."),
)


def openai_body(error: GatewayError) -> dict[str, object]:
    """Error body in OpenAI's format."""
    return {"error": {"message": error.message, "type": error.kind, "param": None, "code": error.code}}


def anthropic_body(error: GatewayError, request_id: str) -> dict[str, object]:
    """Error body in Anthropic's format."""
    said = {"type": error.anthropic_kind, "message": error.message}
    return {"type": "error", "error": said, "request_id": request_id}


def by_status(status: int) -> GatewayError:
    """The table's error with this HTTP status. Raises StopIteration if there is none."""
    return next(error for error in ERRORS if error.status == status)
