"""Envoy's own error answers, in the format of the vendor's API that was called. Pure functions: no Pulumi."""

from __future__ import annotations

from components.mesh import envoy_authorizer, errors
from components.mesh.envoy_base import Json, set_header
from components.mesh.errors import ANTHROPIC_HEADER, ANTHROPIC_PREFIX, ERRORS, GatewayError

_REQUEST_ID = "%STREAM_ID%"
_PATH = ":path"


def _status(status: int, comparison: str = "EQ") -> Json:
    value = {"default_value": status, "runtime_key": "gateway.unused"}  # Envoy requires a runtime key; it is never set
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}


def _all(*filters: Json) -> Json:
    return {"and_filter": {"filters": list(filters)}}


def _header(name: str, **match: object) -> Json:
    return {"header_filter": {"header": {"name": name, **match}}}


_ANTHROPIC: Json = {
    "or_filter": {
        "filters": [
            _header(_PATH, string_match={"prefix": ANTHROPIC_PREFIX}),
            _header(ANTHROPIC_HEADER, present_match=True),
        ]
    }
}
_UNREAD = _header(_PATH, present_match=True, invert_match=True)
"""Matches requests without an id: Envoy refused them before it had read all headers."""
_ENCODED = _header(_PATH, string_match={"safe_regex": {"regex": r".*%(2[fF]|5[cC]).*"}})


def _mapper(when: Json, body: Json, error: GatewayError, *more: Json) -> Json:
    headers = list(more)
    if error.retry_after_s is not None:
        headers.append(set_header("retry-after", str(error.retry_after_s)))
    return {"filter": when, "body_format_override": {"json_format": body}, "headers_to_add": headers}


def _mappers(when: Json, error: GatewayError) -> list[Json]:
    anthropic = errors.anthropic_body(error, _REQUEST_ID)
    return [
        _mapper(_all(when, _ANTHROPIC), anthropic, error, set_header("request-id", _REQUEST_ID)),
        _mapper(_all(when, _UNREAD), errors.openai_body(error), error, set_header("x-request-id", "%UNIQUE_ID%")),
        _mapper(when, errors.openai_body(error), error),
    ]


def local_replies(*, asks: bool = False) -> Json:
    """Configuration of local replies. Envoy uses the first mapper that matches. `asks`: there is an authorizer."""
    denials: list[Json] = []
    if asks:
        undecided = _all(envoy_authorizer.REFUSED, _status(errors.UNDECIDED.status))
        denials = [*envoy_authorizer.answers(), *_mappers(undecided, errors.UNDECIDED)]
    encoded = _mappers(_all(_status(400), _ENCODED), errors.ENCODED_PATH)
    others = [mapper for error in ERRORS for mapper in _mappers(_status(error.status), error)]
    unforeseen = GatewayError(0, errors.DEFAULT_CODE, "server_error", "api_error", "The gateway refused the request.")
    return {"mappers": [*denials, *encoded, *others, *_mappers(_status(400, "GE"), unforeseen)]}
