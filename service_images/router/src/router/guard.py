"""Asks Guardrails about what goes to a model and what comes from it.

Where Guardrails does not answer, requests go on unlooked at, unless their route says that they must not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import msgspec
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from kit import logs, rpc, telemetry
from kit.errors import ApiError, unavailable
from prometheus_client import Counter

if TYPE_CHECKING:
    from router.exchange import Exchange

log = logs.get("router.guard")
PATIENCE_S = 2.0
BLOCKED = "content_policy_violation"
FILTERED = "content_filter"
_LOOKED = Counter("router_guardrails_total", "Texts looked at.", ["direction", "action"], registry=telemetry.REGISTRY)
_WORDS = {
    messages.ACTION_ALLOW: "allow",
    messages.ACTION_FLAG: "flag",
    messages.ACTION_REDACT: "redact",
    messages.ACTION_BLOCK: "block",
}


class Guard:
    """In front of the service."""

    def __init__(self, target: str) -> None:
        self._client = rpc.Client(target, service.GuardrailsServiceStub)

    @property
    def stub(self) -> Any:
        """The service."""
        return self._client.stub

    async def look(self, exchange: Exchange, direction: Any, content: Any) -> str:
        """Look at a request or an answer, and redact it in place; returns what is done. Raises ApiError(503)."""
        places = list(_places(content))
        asked = messages.CheckRequest(
            tenant=exchange.tenant.decode(), direction=direction, texts=[text for text, _ in places]
        )
        try:
            answer = await self.stub.Check(
                asked, timeout=PATIENCE_S, metadata=rpc.carried(exchange.traceparent.decode())
            )
        except grpc.aio.AioRpcError as error:
            return self.unanswered(exchange, direction, error.code().name)
        action = _WORDS.get(answer.action, "allow")
        _LOOKED.labels(_word(direction), action).inc()
        if action == "redact":
            for (text, put), changed in zip(places, answer.texts, strict=True):
                if changed != text:
                    put(changed)
        return action

    @staticmethod
    def unanswered(exchange: Exchange, direction: Any, reason: str) -> str:
        """What happens where nobody looks. Raises ApiError(503)."""
        _LOOKED.labels(_word(direction), "unanswered").inc()
        log.warning("Guardrails does not answer", reason=reason, trace_id=exchange.trace_id.decode())
        if exchange.guard_required:
            raise unavailable("Guardrails") from None
        return "unanswered"


def _word(direction: Any) -> str:
    return "output" if direction == messages.DIRECTION_OUTPUT else "input"


def blocked() -> ApiError:
    """The answer to a request that must not go on."""
    return ApiError(400, "The request is against the policy of your organization.", code=BLOCKED)


def _places(content: Any) -> Any:
    """Every text of a request or an answer, and how to put another in its place."""
    if not isinstance(content, dict):
        return
    for key in ("prompt", "input", "instructions", "output_text", "text"):
        if key in content:
            yield from _texts(content, key)
    for key in ("messages", "input", "output"):
        for message in content[key] if isinstance(content.get(key), list) else ():
            if isinstance(message, dict) and "content" in message:
                yield from _texts(message, "content")
    for choice in content["choices"] if isinstance(content.get("choices"), list) else ():
        if isinstance(choice, dict):
            yield from _texts(choice, "text")
            message = choice.get("message")
            if isinstance(message, dict):
                yield from _texts(message, "content")
                for call in message.get("tool_calls") or ():
                    if isinstance(call, dict) and isinstance(call.get("function"), dict):
                        yield from _texts(call["function"], "arguments")


def _texts(holder: Any, key: Any) -> Any:
    """A text, a list of texts, or a list of parts with texts."""
    value = holder.get(key) if isinstance(holder, dict) else holder[key]
    if isinstance(value, str):
        if value:
            yield value, lambda text: holder.__setitem__(key, text)
    elif isinstance(value, list):
        for place, part in enumerate(value):
            if isinstance(part, str):
                yield from _texts(value, place)
            elif isinstance(part, dict) and isinstance(part.get("text"), str):
                yield from _texts(part, "text")


def filtered(content: dict[str, Any]) -> None:
    """An answer that must not go on, as OpenAI's clients know it: finished by the filter, without its text."""
    for choice in content.get("choices") or ():
        choice["finish_reason"] = FILTERED
        if isinstance(choice.get("message"), dict):
            choice["message"] = {"role": "assistant", "content": ""}
        if "text" in choice:
            choice["text"] = ""
    for item in content.get("output") or ():
        if isinstance(item, dict) and "content" in item:
            item["content"] = []
    content.pop("output_text", None)


encode = msgspec.json.encode
decode = msgspec.json.decode
