"""Checks requests to models and their answers with Guardrails.

`texts.py` finds the texts. If a text cannot be checked, the request is refused if the route requires checks, otherwise
marked in the header `x-guardrails`, in the usage event and in a metric. Texts that are too large for a check are always
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import msgspec
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
from kit import logs, rpc, telemetry
from kit.errors import ApiError, ErrorType, unavailable
from kit.limits import GUARD_TEXTS
from prometheus_client import Counter

from router import texts

if TYPE_CHECKING:
    from router.request import Request

log = logs.get("router.guard")
PATIENCE_S = 2.0
"""Seconds for one answer of Guardrails, to a whole text or to a piece of a stream."""
LATE_S = 0.5
LARGE_BYTES = 32 * 1024
"""Size above which a text that is not checked in time is refused, since its sender may have made it slow on purpose.
Smaller texts take milliseconds, so a timeout has another cause."""
BLOCKED = "content_policy_violation"
FILTERED = "content_filter"
UNCHECKED = "unchecked"
_LATE = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE}
_LOOKED = Counter("router_guardrails_total", "Checked texts.", ["direction", "action"], registry=telemetry.REGISTRY)
_WORDS = {
    messages.ACTION_ALLOW: "allow",
    messages.ACTION_FLAG: "flag",
    messages.ACTION_REDACT: "redact",
    messages.ACTION_BLOCK: "block",
}


class Guard:
    """Client of Guardrails."""

    def __init__(self, target: str, late_s: float = LATE_S) -> None:
        """`late_s`: seconds after which held-back text of a stream is released, if allowed."""
        self.late_s = late_s
        self._client = rpc.Client("guardrails", target, service.GuardrailsServiceStub)

    @property
    def stub(self) -> Any:
        """Stub of Guardrails' gRPC service."""
        return self._client.stub

    async def look(self, exchange: Request, direction: Any, content: Any, known: set[str] | None = None) -> str:
        """Check a request or an answer and redact it in place; returns the action.

        `known`: texts that were checked already; forwarded texts are added.

        Raises ApiError: 413 or 502 for too much text, 400 for token IDs, 503 if a required check is not possible.
        """
        if direction == messages.DIRECTION_INPUT and (field := texts.unreadable(content)) is not None:
            if exchange.guard_required:
                message = f"{field}: Guardrails must check this request, but cannot read token IDs. Send text."
                raise ApiError(400, message, param=field, code=BLOCKED)
            exchange.guard_unchecked = "tokens"
            decided(exchange, _word(direction), UNCHECKED)
            _LOOKED.labels(_word(direction), UNCHECKED).inc()
        places = [place for place in texts.places(content) if known is None or place.text not in known]
        if not places:
            return "allow"
        each: dict[str, int] = {}
        answers: set[int] = set()
        for place in places:
            number = each.setdefault(place.text, len(each))
            if direction == messages.DIRECTION_OUTPUT and texts.is_answer(place.path):
                answers.add(number)
        size = sum(len(text.encode(errors="replace")) for text in each)
        if size > GUARD_TEXTS.most:
            reason = f"{size:,} bytes of text; at most {GUARD_TEXTS.most:,} can be checked."
            raise self.too_large(direction, reason)
        asked = messages.CheckRequest(
            tenant=exchange.tenant.decode(),
            direction=direction,
            texts=[_sound(text) for text in each],
            others=[number for number in range(len(each)) if number not in answers],
        )
        try:
            answer = await self.stub.Check(asked, timeout=PATIENCE_S, metadata=carried(exchange))
        except grpc.aio.AioRpcError as error:
            if error.code() in _LATE and size > LARGE_BYTES:
                raise self.too_large(direction, f"{size:,} bytes of text could not be checked in time.") from None
            return self.unanswered(exchange, direction, error.code().name)
        action = word_of(answer.action)
        decided(exchange, _word(direction), action)
        _LOOKED.labels(_word(direction), action).inc()
        if action == "redact":
            for place in places:
                changed = answer.texts[each[place.text]]
                if changed != _sound(place.text):
                    place.put(changed)
            texts.without_probabilities(content)
        if known is not None and action != "block":
            known.update(answer.texts)
        return action

    @staticmethod
    def too_large(direction: Any, what: str) -> ApiError:
        """The error for a text that cannot be checked in time."""
        _LOOKED.labels(_word(direction), "too_large").inc()
        if direction == messages.DIRECTION_INPUT:
            return ApiError(413, f"The request has {what} Send less text at once.", code="content_too_large")
        return ApiError(502, f"The model's answer has {what}", ErrorType.UPSTREAM, code="content_too_large")

    @staticmethod
    def unanswered(exchange: Request, direction: Any, reason: str) -> str:
        """Handle a missing answer of Guardrails: refuse or mark the request. Raises ApiError(503)."""
        _LOOKED.labels(_word(direction), "unanswered").inc()
        log.warning("Guardrails is unavailable", reason=reason, trace_id=exchange.trace_id.decode())
        decided(exchange, _word(direction), "unanswered")
        if exchange.guard_required:
            raise unavailable("Guardrails") from None
        exchange.guard_unchecked = "unanswered"
        return "unanswered"


def word_of(action: Any) -> str:
    """An action of Guardrails as in events."""
    return _WORDS.get(action, "allow")


def carried(exchange: Request) -> tuple[tuple[str, str], ...]:
    """Metadata of a check: the trace, and the request that Guardrails' event is about."""
    return (*rpc.carried(exchange.traceparent.decode()), ("x-request-id", exchange.request_id.decode()))


_STRICTNESS = ("allow", "flag", "redact", UNCHECKED, "unanswered", "block")


def decided(exchange: Request, direction: str, verdict: str) -> None:
    """Keep a verdict for the usage event, if it is the strictest of its direction so far."""
    if exchange.verdicts is None:
        exchange.verdicts = {}
    before = exchange.verdicts.get(direction, "allow")
    exchange.verdicts[direction] = max(before, verdict, key=_STRICTNESS.index)


def _sound(text: str) -> str:
    """Remove unpaired surrogates, which UTF-8 cannot encode."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _word(direction: Any) -> str:
    return "output" if direction == messages.DIRECTION_OUTPUT else "input"


def blocked() -> ApiError:
    """The error for a blocked request."""
    return ApiError(400, "The request violates the policy of your organization.", code=BLOCKED)


_KEPT = ("id", "object", "created", "created_at", "model", "usage", "service_tier")
"""Fields of a blocked answer without text of the model."""


def filtered(content: dict[str, Any]) -> dict[str, Any]:
    """A blocked answer as OpenAI's clients expect it: finished by the content filter, without texts."""
    kept: dict[str, Any] = {name: content[name] for name in _KEPT if name in content}
    if isinstance(content.get("output"), list):
        reason = {"incomplete_details": {"reason": FILTERED}}
        return {**kept, "status": "incomplete", "error": None, **reason, "output": [], "output_text": ""}
    choices: list[dict[str, Any]] = []
    for number, choice in enumerate(content.get("choices") or ()):
        index = choice.get("index", number) if isinstance(choice, dict) else number
        empty = {"text": ""} if isinstance(choice, dict) and "text" in choice else {"message": _SILENT}
        choices.append({"index": index, "finish_reason": FILTERED, "logprobs": None, **empty})
    return {**kept, "choices": choices}


_SILENT = {"role": "assistant", "content": "", "refusal": None}
encode = msgspec.json.encode
decode = msgspec.json.decode
