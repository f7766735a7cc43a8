"""Checks a stream of the Responses API with Guardrails.

Its texts arrive in pieces (`response.output_text.delta` and similar events), and again as a whole up to three times.
The whole is replaced with the forwarded pieces. Arguments of tools are held until they are complete, since they are
JSON.
Source: OpenAI, API reference, "Streaming events".
"""

from __future__ import annotations

from typing import Any

from router import sse, texts
from router.guard import FILTERED, decode, encode, filtered
from router.guarded import Guarded

Json = dict[str, Any]
_HELD = {"response.function_call_arguments", "response.mcp_call_arguments"}
_BYTES = {"response.audio", "response.output_audio"}
_FIELDS = ("text", "arguments", "refusal", "input", "code", "transcript")
"""Field in which the final event of a text repeats it."""
_PARTS = {
    "output_text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "reasoning_text": ("response.reasoning_text", "text"),
    "summary_text": ("response.reasoning_summary_text", "text"),
}
_ITEMS = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
}
_ENDS = {"response.completed", "response.incomplete", "response.failed"}


class GuardedResponses(Guarded):
    """The events of one answer, with new sequence numbers."""

    def __init__(self, guard: Any, exchange: Any) -> None:
        super().__init__(guard, exchange)
        self._passed: dict[Any, str] = {}
        """Forwarded part of each text that arrives in pieces."""
        self._last: dict[Any, Json] = {}
        """The latest event of each text."""
        self._whole_ones: dict[Any, str] = {}
        """Texts that are held until they are complete."""
        self._checked: set[str] = set()
        """Texts that were forwarded as a whole; they occur up to four times."""
        self._response: Json = {}
        self._number = 0
        self._changed = False

    async def one(self, event: bytes) -> bool:
        """Process an event."""
        line = sse.data(event)
        if line is None:
            return True  # a comment
        try:
            content = decode(line)
            kind = content["type"]
        except (ValueError, KeyError, TypeError):
            return await self._strange(line)
        if not isinstance(kind, str):
            return await self._strange(line)
        if isinstance(content.get("response"), dict):
            self._response = content["response"]
        content.pop("obfuscation", None)  # padding against length analysis; redaction changes the length anyway
        base, _, end = kind.rpartition(".")
        key = _key(base, content)
        if end == "delta" and isinstance(content.get("delta"), str) and base not in _BYTES:
            return await self._piece(base, key, content)
        if end == "done" and key in self._last:
            if not await self.flush(key):
                return False
            for field in _FIELDS:
                if isinstance(content.get(field), str):
                    content[field] = self._passed.get(key, "")
        elif kind in _ENDS and not await self.rest():
            return False
        return await self._forward(content)

    async def _strange(self, line: bytes) -> bool:
        """Check an event that is not part of the API as a whole."""
        try:
            content = decode(line)
        except ValueError:
            content = line.decode(errors="replace")
        holder = {"content": content}
        if line.strip() != sse.DONE and not await self.whole(holder):
            self._block()
            return False
        found = holder["content"]
        self.send(sse.event(found.encode() if isinstance(found, str) else encode(found)))
        return True

    async def _forward(self, content: Json) -> bool:
        """Forward an event with whole texts, replaced with the forwarded pieces."""
        self._rewrite(content)
        if self._changed:
            texts.without_probabilities(content)
        before = encode(content)
        if not await self.whole(content, self._checked):
            self._block()
            return False
        self._changed = self._changed or encode(content) != before
        self._tell(content)
        return True

    async def _piece(self, base: str, key: Any, content: Json) -> bool:
        self._last[key] = content
        if base in _HELD:
            self._whole_ones[key] = self._whole_ones.get(key, "") + self.hold(content["delta"])
            return True
        passed, going_on = await self.look(key, content["delta"], answer=base == "response.output_text")
        if not going_on:
            self._block()
            return False
        if passed != content["delta"]:
            texts.without_probabilities(content)
        if passed:
            self._passed[key] = self._passed.get(key, "") + passed
            self._tell({**content, "delta": passed})
        return True

    async def flush(self, key: Any) -> bool:
        """Sends a piece of its own."""
        text, going_on = "", True
        if key in self._whole_ones:
            held = {"arguments": self._whole_ones.pop(key)}
            going_on, text = await self.whole(held), held["arguments"]
        elif not self.closed(key):
            text, going_on = await self.look(key, "", last=True)
            self.forget(key)
        return self._further(key, text, going_on)

    async def late(self, key: Any) -> bool:
        """Sends a piece of its own, too."""
        return self._further(key, *await self.look(key, "", late=True))

    def _further(self, key: Any, text: str, going_on: bool) -> bool:
        if not going_on:
            self._block()
            return False
        if text:
            self._passed[key] = self._passed.get(key, "") + text
            event = {**self._last[key], "delta": text}
            texts.without_probabilities(event)
            self._tell(event)
        return True

    async def rest(self) -> bool:
        """Also forwards texts that were held until they are complete."""
        for key in list(self._whole_ones):
            if not await self.flush(key):
                return False
        return await super().rest()

    def _rewrite(self, content: Json) -> None:
        """Replace whole texts with the forwarded pieces."""
        number = content.get("output_index", 0)
        if isinstance(content.get("part"), dict) and content["type"].endswith(".done"):
            self._part(number, content.get("content_index", content.get("summary_index", 0)), content["part"])
        if content["type"] == "response.output_item.done":
            self._item(number, content.get("item"))
        if content["type"] in _ENDS:
            output = self._response.get("output")
            for place, item in enumerate(output if isinstance(output, list) else ()):
                self._item(place, item)

    def _item(self, number: int, item: Any) -> None:
        if not isinstance(item, dict):
            return
        for name in ("content", "summary"):
            for place, part in enumerate(item[name] if isinstance(item.get(name), list) else ()):
                if isinstance(part, dict):
                    self._part(number, place, part)
        base, field = _ITEMS.get(str(item.get("type")), ("", ""))
        if field in item and (base, number, 0) in self._passed:
            self._put(item, field, (base, number, 0))

    def _part(self, number: int, place: int, part: Json) -> None:
        base, field = _PARTS.get(str(part.get("type")), ("", ""))
        if field in part and (base, number, place) in self._passed:
            self._put(part, field, (base, number, place))

    def _put(self, holder: Json, field: str, key: Any) -> None:
        if holder[field] != self._passed[key]:
            self._changed = True
            holder[field] = self._passed[key]
            texts.without_probabilities(holder)

    def _tell(self, content: Json) -> None:
        if "sequence_number" in content:
            content["sequence_number"], self._number = self._number, self._number + 1
        self.send(sse.event(encode(content), content["type"].encode()))

    def _block(self) -> None:
        """Ends the response as OpenAI's content filter does."""
        final = filtered({**self._response, "output": []}) | {"incomplete_details": {"reason": FILTERED}}
        last = {"type": "response.incomplete", "sequence_number": self._number, "response": final}
        self.stop(sse.event(encode(last), b"response.incomplete"))


def _key(base: str, content: Json) -> Any:
    return base, content.get("output_index", 0), content.get("content_index", content.get("summary_index", 0))
