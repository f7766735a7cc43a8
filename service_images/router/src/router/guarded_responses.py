"""A stream of the Responses API on its way through Guardrails.

Its texts come in pieces (`response.output_text.delta`, `response.function_call_arguments.delta`) and then again as a
whole, three times: what went on of the pieces is what the whole is. Source: OpenAI, API reference, "Streaming events".
"""

from __future__ import annotations

from typing import Any

from router import sse
from router.guard import FILTERED, decode, encode
from router.guarded import END, Guarded, data_of

_PIECES = {"response.output_text.delta", "response.function_call_arguments.delta", "response.refusal.delta"}
_WHOLES = {
    "response.output_text.done": "text",
    "response.function_call_arguments.done": "arguments",
    "response.refusal.done": "refusal",
}
_ENDS = {"response.completed", "response.incomplete", "response.failed"}


class GuardedResponses(Guarded):
    """One answer's events, numbered anew."""

    def __init__(self, guard: Any, exchange: Any) -> None:
        super().__init__(guard, exchange)
        self._passed: dict[Any, str] = {}
        self._last: dict[Any, dict[str, Any]] = {}
        self._response: dict[str, Any] = {}
        self._number = 0

    async def one(self, event: bytes) -> bool:
        """An event."""
        try:
            content = decode(data_of(event))
            kind = str(content["type"])
        except (ValueError, KeyError, TypeError):
            self.send(event, END)
            return True
        if isinstance(content.get("response"), dict):
            self._response = content["response"]
        key = (content.get("output_index", 0), content.get("content_index", 0))
        if kind in _PIECES and isinstance(content.get("delta"), str):
            return await self._piece(key, content)
        if kind in _WHOLES:
            if not await self._whole(key, content, _WHOLES[kind]):
                return False
        elif kind in _ENDS and not await self.rest():
            return False
        self._rewrite(key, content)
        self._tell(content)
        return True

    async def _piece(self, key: Any, content: dict[str, Any]) -> bool:
        self._last[key] = content
        passed, going_on = await self.look(key, content["delta"])
        if not going_on:
            self._block()
            return False
        if passed:
            self._passed[key] = self._passed.get(key, "") + passed
            self._tell({**content, "delta": passed})
        return True

    async def _whole(self, key: Any, content: dict[str, Any], field: str) -> bool:
        """What went on of the pieces; a text that came in none is looked at now."""
        if key in self._last:
            going_on = await self.flush(key)
        else:
            self._passed[key], going_on = await self.look(key, str(content.get(field) or ""), last=True)
            self.forget(key)
            if not going_on:
                self._block()
        content[field] = self._passed.get(key, "")
        return going_on

    async def flush(self, key: Any) -> bool:
        """As a piece of its own."""
        if self.closed(key):
            return True
        text, going_on = await self.look(key, "", last=True)
        self.forget(key)
        if not going_on:
            self._block()
            return False
        if text:
            self._passed[key] = self._passed.get(key, "") + text
            self._tell({**self._last[key], "delta": text})
        return True

    def _rewrite(self, key: Any, content: dict[str, Any]) -> None:
        """Put what went on into the wholes that tell it again."""
        if content["type"].endswith(".done") and isinstance(content.get("part"), dict):
            self._part(key, content["part"])
        if content["type"] == "response.output_item.done":
            self._item(key[0], content.get("item"))
        if content["type"] in _ENDS:
            for number, item in enumerate(self._response.get("output") or ()):
                self._item(number, item)

    def _item(self, number: int, item: Any) -> None:
        if not isinstance(item, dict):
            return
        for place, part in enumerate(item.get("content") or ()):
            if isinstance(part, dict):
                self._part((number, place), part)
        if isinstance(item.get("arguments"), str) and (number, 0) in self._passed:
            item["arguments"] = self._passed[number, 0]

    def _part(self, key: Any, part: dict[str, Any]) -> None:
        for field in ("text", "refusal"):
            if isinstance(part.get(field), str) and part[field]:
                part[field] = self._passed.get(key, "")

    def _tell(self, content: dict[str, Any]) -> None:
        if "sequence_number" in content:
            content["sequence_number"], self._number = self._number, self._number + 1
        self.send(sse.event(encode(content), content["type"].encode()))

    def _block(self) -> None:
        """As OpenAI's clients know it."""
        told = {**self._response, "status": "incomplete", "incomplete_details": {"reason": FILTERED}, "output": []}
        last = {"type": "response.incomplete", "sequence_number": self._number, "response": told}
        self.stop(sse.event(encode(last), b"response.incomplete"))
