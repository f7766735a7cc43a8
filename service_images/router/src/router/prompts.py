"""Stored prompts in requests, as in OpenAI's Responses API: `"prompt": {"id", "version", "variables"}`.

The Prompt service renders them. Results are cached until a label of the tenant moves, which is published within a
second. Without NATS, nothing is cached, since changes would not be received.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import grpc
import msgspec
from cogniforge.prompt.v1 import prompt_pb2 as messages
from cogniforge.prompt.v1 import prompt_pb2_grpc as service
from kit import bus, logs, rpc, telemetry
from kit.errors import ApiError, ErrorType, unavailable
from kit.following import Following
from prometheus_client import Counter

if TYPE_CHECKING:
    from router.request import Request

log = logs.get("router.prompts")
PATIENCE_S = 2.0
LABELS = "labels"
MOST = 2048
"""Maximum number of cached prompts."""
SETTINGS = frozenset(
    ("temperature", "top_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "stop", "seed", "tools",
     "tool_choice", "presence_penalty", "frequency_penalty", "response_format", "text", "reasoning_effort")
)  # fmt: skip
"""Settings in a version's config that apply if the request does not set them."""
_RENDERED = Counter("router_prompts_total", "Stored prompts in requests.", ["source"], registry=telemetry.REGISTRY)
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: (400, ErrorType.INVALID_REQUEST),
    grpc.StatusCode.NOT_FOUND: (404, ErrorType.NOT_FOUND),
}


class Named(msgspec.Struct, forbid_unknown_fields=True):
    """A reference to a prompt in a request. `version`: a number as a text, as OpenAI's clients send it."""

    id: str
    version: str | int | None = None
    label: str | None = None
    split: str | None = None
    variables: dict[str, Any] = {}


class Stored(msgspec.Struct):
    """A rendered prompt."""

    version: str
    """As "name@version"."""
    said: list[dict[str, str]]
    """Messages of the prompt, as JSON."""
    config: dict[str, Any]


decode = msgspec.json.decode
encode = msgspec.json.encode
_in_order = msgspec.json.Encoder(order="deterministic").encode


class Prompts:
    """Client of Prompt with a cache."""

    def __init__(self, target: str) -> None:
        self._client = rpc.Client("prompt", target, service.PromptServiceStub)
        self._kept: dict[str, OrderedDict[bytes, Stored]] = {}
        self._followed = False

    def labels(self, url: str, login: Mapping[str, Any]) -> Following:
        """Background task that enables the cache, because it follows changes of labels."""
        self._followed = True
        return Following(url, LABELS, self._moved, login)

    def _moved(self, key: str, _: bytes | None) -> None:
        """Drop all cached prompts of a tenant, since each may include the changed one."""
        self._kept.pop(bus.parts(key)[0], None)

    async def render(self, exchange: Request, content: Any) -> Stored:
        """Render the prompt in a request. Raises ApiError with the invalid field."""
        try:
            named = msgspec.convert(content["prompt"], Named)
        except msgspec.ValidationError as error:
            raise ApiError(400, f"prompt: {error}", param="prompt", code="invalid_value") from None
        tenant, user = exchange.tenant.decode(), exchange.ask.user if exchange.ask else None
        asked = _request(named, tenant, user or "")
        key = asked.SerializeToString(deterministic=True)
        kept = self._kept.setdefault(tenant, OrderedDict())
        if (found := kept.get(key)) is not None:
            kept.move_to_end(key)
            _RENDERED.labels("kept").inc()
            return found
        found = await self._ask(asked, exchange.traceparent.decode())
        # If a label moved meanwhile, the tenant's cache was dropped, and this result may be outdated.
        if self._followed and self._kept.get(tenant) is kept:
            kept[key] = found
            if len(kept) > MOST:
                kept.popitem(last=False)
        _RENDERED.labels("rendered").inc()
        return found

    async def _ask(self, asked: messages.RenderRequest, traceparent: str) -> Stored:
        try:
            answer = await self._client.stub.Render(asked, timeout=PATIENCE_S, metadata=rpc.carried(traceparent))
        except grpc.aio.AioRpcError as error:
            if error.code() in _STATUS:
                status, kind = _STATUS[error.code()]
                raise ApiError(
                    status, f"prompt: {error.details()}", kind, param="prompt", code="invalid_prompt"
                ) from None
            log.warning("Prompt is unavailable", reason=error.code().name)
            raise unavailable("Prompt") from None
        said = [{"role": message.role, "content": message.content} for message in answer.messages]
        return Stored(f"{asked.name}@{answer.version}", said, decode(answer.config or b"{}"))


def _request(named: Named, tenant: str, user: str) -> messages.RenderRequest:
    """The version to render: a number, a label, or a split between labels."""
    which = [name for name in ("version", "label", "split") if getattr(named, name) is not None]
    if len(which) > 1:
        raise ApiError(400, f"prompt: set only one of {', '.join(which)}", param="prompt", code="invalid_value")
    request = messages.RenderRequest(tenant=tenant, name=named.id, variables=_in_order(named.variables))
    if named.version is not None:
        text = str(named.version)
        if not text.isdecimal() or not 0 < int(text) < 2**31:
            raise ApiError(400, "prompt.version: must be a number", param="prompt.version", code="invalid_value")
        request.version = int(text)
    if named.label is not None:
        request.label = named.label
    if named.split is not None:
        request.split, request.user = named.split, user
    return request


def filled(path: bytes, content: dict[str, Any], stored: Stored) -> dict[str, Any]:
    """The request with the stored prompt first. Settings of the request override those of the prompt."""
    said: list[dict[str, Any]] = [dict(message) for message in stored.said]
    known = {key: value for key, value in stored.config.items() if key in SETTINGS}
    made = {**known, **{key: value for key, value in content.items() if key != "prompt"}}
    if path == b"/v1/chat/completions":
        given = made.get("messages") or []
        made["messages"] = [*said, *cast("list[Any]", given)] if isinstance(given, list) else given
        return made
    given = made.get("input")
    own = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    made["input"] = [*said, *cast("list[Any]", own)]
    return made
