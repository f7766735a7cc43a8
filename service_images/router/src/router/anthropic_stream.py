"""Translates streams of chat completions to Anthropic's, in which blocks come one after the other.

Source: https://docs.anthropic.com/en/api/messages-streaming, version 2023-06-01.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router import sse
from router.anthropic_answer import stop_of, usage_of

Json = dict[str, Any]
_TEXTS = {
    "reasoning_content": ("thinking", {"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta"),
    "reasoning": ("thinking", {"type": "thinking", "thinking": "", "signature": ""}, "thinking_delta"),
    "content": ("text", {"type": "text", "text": ""}, "text_delta"),
    "refusal": ("text", {"type": "text", "text": ""}, "text_delta"),
}
"""By field of a delta: block type, the start of such a block, and the type of its deltas."""
MAX_WAITING = 1024 * 1024
"""Maximum characters that wait for the open call to end."""


class Stream:
    """Translates the events of a streamed completion to those of a streamed message."""

    def __init__(self, request_id: str, model: str) -> None:
        self._id, self._model = request_id, model
        self._reader = sse.Reader()
        self._begun = False
        self._block = -1
        self._open: str | int | None = None
        """The open block: "text", "thinking", or the index of a call; None if none is open."""
        self._said = ""
        """Arguments of the open call so far."""
        self._waiting: dict[int, Json] = {}
        """Calls whose block has not started, because another one is open."""
        self._later: list[tuple[str, str]] = []
        """Texts that arrived between the pieces of a call."""
        self._closed: set[int] = set()
        self._room = MAX_WAITING
        self._finish: str | None = None
        self._sequence: Any = None
        self._refused = self._called = False
        self._reported: Json | None = None
        self.ended = False
        """Whether the last event was sent."""

    def feed(self, data: bytes) -> bytes:
        """Translate a piece of the upstream's stream to events for the client."""
        out: list[bytes] = []
        try:
            events = self._reader.feed(data)
        except sse.EventTooLarge as error:
            self._fail(str(error), out)
            return b"".join(out)
        self._events(events, out)
        return b"".join(out)

    def end(self) -> bytes:
        """Remaining events at the end of the upstream's stream: the message's end, or an error if it is incomplete."""
        out: list[bytes] = []
        self._events(self._reader.end(), out)
        if not self.ended and self._finish is not None:
            self._end(out)
        elif not self.ended:
            self._fail("The model's answer was interrupted.", out)
        return b"".join(out)

    def _events(self, events: bytes, out: list[bytes]) -> None:
        for event in sse.split(events):
            line = (sse.data(event) or b"").strip()
            if line and not self.ended:
                self._line(line, out)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        if line == sse.DONE:
            self._end(out)
            return
        try:
            self._chunk(msgspec.json.decode(line), out)
        except (ValueError, LookupError, TypeError, AttributeError):
            self._fail("The model's answer is not a valid completion.", out)

    def _chunk(self, chunk: Json, out: list[bytes]) -> None:
        if (failure := chunk.get("error")) is not None:
            message = failure.get("message") if isinstance(failure, dict) else failure
            self._fail(str(message or "The model failed to answer."), out, str(_kind(failure)))
            return
        if chunk.get("usage"):
            self._reported = dict(chunk["usage"])
        self._start(out)
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) != 0:
                raise ValueError("a message has one choice")
            self._delta(choice.get("delta") or {}, out)
            if reason := choice.get("finish_reason"):
                self._finish, self._sequence = str(reason), choice.get("stop_reason")

    def _delta(self, delta: Json, out: list[bytes]) -> None:
        if delta.get("audio"):
            raise ValueError("a message has no audio")
        for field, (kind, block, name) in _TEXTS.items():
            text = delta.get(field)
            if not text or not isinstance(text, str) or (field == "reasoning" and delta.get("reasoning_content")):
                continue
            self._refused = self._refused or field == "refusal"
            if isinstance(self._open, int) and not self._ends_call(out):
                self._keep(text)
                self._later.append((field, text))  # the open call is incomplete
                continue
            self._begin(kind, block, out)
            self._send({"type": name, "thinking" if kind == "thinking" else "text": text}, out)
        for place, call in enumerate(delta.get("tool_calls") or ()):
            self._call(call.get("index", place), call, out)

    # --- calls of tools -----------------------------------------------------------------------------

    def _call(self, index: int, call: Json, out: list[bytes]) -> None:
        """Process a piece of a call: send it if its block is open or can be opened, otherwise queue it."""
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        self._called = True
        if index in self._closed:
            if arguments.strip():
                raise ValueError("a call continues after its end")
            return
        if index != self._open and isinstance(self._open, int) and not self._ends_call(out):
            self._wait(index, call, arguments)
            return
        if index != self._open:
            waiting = self._waiting.pop(index, {})
            name = (waiting.get("name") or "") + (function.get("name") or "")
            identity = waiting.get("id") or call.get("id")
            arguments = (waiting.get("arguments") or "") + arguments
            if not name or not identity:
                raise ValueError("a call has a name and an id")
            self._begin(index, {"type": "tool_use", "id": identity, "name": name, "input": {}}, out)
        self._arguments(arguments, out)

    def _arguments(self, text: str, out: list[bytes]) -> None:
        if text:
            self._said += text
            self._send({"type": "input_json_delta", "partial_json": text}, out)

    def _wait(self, index: int, call: Json, arguments: str) -> None:
        self._keep(arguments)
        function = call.get("function") or {}
        waiting = self._waiting.setdefault(index, {"name": "", "arguments": ""})
        waiting["name"] += function.get("name") or ""
        waiting["arguments"] += arguments
        waiting["id"] = call.get("id") or waiting.get("id")

    def _keep(self, text: str) -> None:
        self._room -= len(text)
        if self._room < 0:
            raise ValueError("the pieces of a call are too far apart")

    def _ends_call(self, out: list[bytes]) -> bool:
        """Close the open call if its arguments are complete. Returns False if they are not."""
        try:
            whole = isinstance(msgspec.json.decode(self._said or "{}"), dict)
        except ValueError:
            whole = False
        if whole and self._said:
            self._close(out)
        return self._open is None

    # --- blocks -----------------------------------------------------------------------------------------

    def _start(self, out: list[bytes]) -> None:
        if self._begun:
            return
        self._begun = True
        message = {
            "id": f"msg_{self._id}",
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_of(self._reported),
        }
        out.append(_event("message_start", {"message": message}))

    def _begin(self, kind: str | int, block: Json, out: list[bytes]) -> None:
        if self._open == kind:
            return
        self._close(out)
        self._open, self._said = kind, ""
        self._block += 1
        out.append(_event("content_block_start", {"index": self._block, "content_block": block}))

    def _send(self, delta: Json, out: list[bytes]) -> None:
        out.append(_event("content_block_delta", {"index": self._block, "delta": delta}))

    def _close(self, out: list[bytes]) -> None:
        if self._open is None:
            return
        if isinstance(self._open, int):
            self._closed.add(self._open)
        self._open = None
        out.append(_event("content_block_stop", {"index": self._block}))

    def _end(self, out: list[bytes]) -> None:
        self._start(out)
        self._close(out)
        for index in sorted(self._waiting):
            self._call(index, {}, out)
            self._close(out)
        for field, text in self._later:
            self._delta({field: text}, out)
        self._close(out)
        reason, sequence = stop_of(self._finish, self._sequence, called=self._called, refused=self._refused)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        out.append(_event("message_delta", {"delta": delta, "usage": usage_of(self._reported)}))
        out.append(_event("message_stop", {}))
        self.ended = True

    def _fail(self, message: str, out: list[bytes], kind: str = "api_error") -> None:
        """End the stream with an error."""
        self.ended = True
        out.append(_event("error", {"error": {"type": kind, "message": message}, "request_id": self._id}))


def _kind(failure: Any) -> str:
    """Anthropic's type for an error of the Router."""
    code = failure.get("code") if isinstance(failure, dict) else None
    return "overloaded_error" if code == "unavailable" else "api_error"


def _event(name: str, content: Json) -> bytes:
    return sse.event(msgspec.json.encode({"type": name, **content}), name.encode())
