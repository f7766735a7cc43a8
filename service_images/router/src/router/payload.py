"""Reads requests of clients, and writes requests to upstreams."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from kit.errors import ApiError, ErrorType
from kit.limits import MODEL

from router import anthropic, door, to_anthropic, usage

if TYPE_CHECKING:
    from router.request import Request
    from router.targets import TargetState

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TEXT = {"/v1/chat/completions": "messages", "/v1/responses": "input", "/v1/embeddings": "input"}
CHAT, EMBEDDINGS = b"/v1/chat/completions", b"/v1/embeddings"
PATHS = frozenset((*(path.encode() for path in _TEXT), b"/v1/completions", anthropic.PATH))
"""Paths that the fast path serves with POST."""
TEXTS = {path: path.decode() for path in PATHS}
OPERATIONS = {"/v1/embeddings": "embeddings", "/v1/completions": "text_completion"}
"""Operation names of OpenTelemetry's conventions by path; all others are "chat"."""
STORED = frozenset((CHAT, b"/v1/responses"))
"""Paths whose requests may name a stored prompt."""
COUNTED = frozenset((CHAT, b"/v1/completions"))
"""Paths whose streams report usage only on request."""
_ASKED = b',"stream_options":{"include_usage":true}}'


_NULLABLE = ("prompt", "input", "messages")
_ABSENT = msgspec.Raw(b"")


def is_request_id(value: bytes) -> bool:
    """Whether an ID may be logged and forwarded unchanged."""
    return _REQUEST_ID.fullmatch(value) is not None


def bearer(headers: dict[bytes, bytes]) -> bytes:
    """The API key: a bearer token (OpenAI), or x-api-key."""
    value = headers.get(b"authorization", b"")
    return value[7:].strip() if value[:7].lower() == b"bearer " else headers.get(b"x-api-key", b"")


def read(path: bytes, body: bytes, ask: usage.Ask | None = None) -> usage.Ask:
    """Read a request. `ask`: the result of `parameters.check`. Raises ApiError with the invalid field."""
    try:
        ask = usage.ask(body) if ask is None else ask
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = str(error) or type(error).__name__
        found = re.search(r"at `\$\.?([^`]*)`", text) or re.search(r"field `([^`]*)`", text)
        param = found[1] if found and found[1] else None
        raise ApiError(400, f"{param or 'body'}: {text}", param=param, code="invalid_value") from None
    for name in _NULLABLE:
        if (raw := getattr(ask, name)) and memoryview(raw) == b"null":
            setattr(ask, name, _ABSENT)
    if not ask.model:
        raise ApiError(400, "model: must not be empty.", param="model", code="invalid_value")
    if ask.user is not None or ask.metadata is not None or len(ask.model) > MODEL.most:
        door.check(ask)
    if ask.prompt and memoryview(ask.prompt) == b"null":
        ask.prompt = msgspec.Raw(b"")  # handled as absent
    if path == CHAT and memoryview(ask.messages)[:2] == b"[{":
        return ask  # the usual notation; the checks below are for all others
    if path in STORED and bytes(ask.prompt).lstrip()[:1] == b"{" and not (ask.messages or ask.input):
        return ask  # the stored prompt is the whole input
    field = _TEXT.get(path.decode(), "prompt")
    given = bytes(getattr(ask, field)).strip()
    if field == "messages" and (given[:1] != b"[" or given[1:].strip() == b"]"):
        raise ApiError(400, "messages: must be a list of at least one.", param="messages", code="invalid_value")
    if not given or given == b"null":
        raise ApiError(400, f"{field}: is required.", param=field, code="invalid_value")
    return ask


def prompt(ask: usage.Ask | None) -> bytes:
    """The request's text, as it was sent."""
    return b"" if ask is None else bytes(ask.messages or ask.input or ask.prompt)


def wants_usage(exchange: Request) -> bool:
    """Whether the client itself has requested the usage at the end of a stream."""
    ask = exchange.ask
    return ask is None or bool(ask.stream_options and ask.stream_options.get("include_usage"))


def request(exchange: Request, state: TargetState, traceparent: bytes) -> bytes:
    """Bytes of an attempt's request. Raises ApiError if the target does not support the request.

    `traceparent`: trace context for the platform's own model servers.
    """
    body = _body(exchange, state)
    if state.outside or state.messages:
        return _outside(exchange, state, body)
    return (
        b"POST %s%s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\nx-request-id: %s\r\n"
        b"traceparent: %s\r\n%scontent-length: %d\r\n\r\n%s"
        % (
            state.prefix,
            exchange.upstream_path,
            state.host_header,
            exchange.request_id,
            traceparent,
            state.authorization(),
            len(body),
            body,
        )
    )


def _outside(exchange: Request, state: TargetState, body: bytes) -> bytes:
    """Request to an external model: with its own credential, without our trace context."""
    path = exchange.upstream_path
    if not state.messages:
        shown = state.authorization()
    else:
        if path != CHAT:
            message = f"The model `{exchange.model}` does not serve {exchange.path_text}."
            raise ApiError(404, message, ErrorType.NOT_FOUND, param="model", code="model_not_supported")
        path, body = to_anthropic.PATH, to_anthropic.request(msgspec.json.decode(body))
        shown = state.authorization(b"x-api-key:") + b"anthropic-version: %s\r\n" % to_anthropic.VERSION
    head = b"POST %s%s HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\naccept-encoding: identity\r\n"
    own = head % (state.prefix, path, state.host_header)
    return b"%s%scontent-length: %d\r\n\r\n%s" % (own, shown, len(body), body)


def _body(exchange: Request, state: TargetState) -> bytes:
    ask, body = exchange.ask, exchange.body
    assert ask is not None
    model = state.target.upstream_model or exchange.route_model
    counts = ask.stream and exchange.upstream_path in COUNTED and not wants_usage(exchange)
    exchange.hides_usage = counts and exchange.dialect is None
    if model == ask.model and not exchange.partial:
        if not counts:
            return body
        if ask.stream_options is None and b'"stream_options"' not in body:
            return body.rstrip()[:-1] + _ASKED
    content = msgspec.json.decode(body)
    content["model"] = model
    if counts:
        content["stream_options"] = {**(ask.stream_options or {}), "include_usage": True}
    if exchange.partial:
        # The text so far becomes the beginning of the answer, which the next target continues.
        content["messages"] = [*content["messages"], {"role": "assistant", "content": exchange.partial}]
        content["continue_final_message"], content["add_generation_prompt"] = True, False
    return msgspec.json.encode(content)
