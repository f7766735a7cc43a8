"""Event streams of chat completions: the text so far, and the removal of events that a client should not see."""

from __future__ import annotations

from typing import Any

import msgspec

from router import sse, usage


def _content(event: bytes) -> Any:
    line = sse.data(event)
    if not line or line.strip() == sse.DONE:
        return None
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _choices(content: Any) -> list[Any]:
    found = content.get("choices") if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def said(data: bytes) -> str | None:
    """The text of a stream so far; None if it cannot be continued: finished, with tool calls, or several choices."""
    text: list[str] = []
    for event in sse.split(data):
        if (sse.data(event) or b"").strip() == sse.DONE:
            return None
        for choice in _choices(_content(event)):
            delta = choice.get("delta") if isinstance(choice, dict) else None
            if not isinstance(delta, dict) or choice.get("index", 0) != 0:
                return None
            if choice.get("finish_reason") or delta.get("tool_calls"):
                return None
            if isinstance(piece := delta.get("content"), str):
                text.append(piece)
    return "".join(text)


def without_usage(data: bytes) -> bytes:
    """Complete events, without those that only contain usage."""
    kept = [event for event in sse.split(data) if not usage.may_report(event) or not _only_usage(_content(event))]
    return b"".join(event + sse.END for event in kept)


def _only_usage(content: Any) -> bool:
    return isinstance(content, dict) and bool(content.get("usage")) and not content.get("choices")


def without_role(data: bytes) -> bytes:
    """Complete events, without those that only begin a message, which has begun already."""
    return b"".join(event + sse.END for event in sse.split(data) if not _only_role(_content(event)))


def _only_role(content: Any) -> bool:
    choices = _choices(content)
    return bool(choices) and all(
        isinstance(c, dict)
        and isinstance(c.get("delta"), dict)
        and not c["delta"].get("content")
        and not c["delta"].get("tool_calls")
        and not c.get("finish_reason")
        for c in choices
    )


def as_stream(path: bytes, body: bytes, *, usage: bool) -> bytes | None:
    """A whole answer as the events of a stream; None if it is not an answer that can be streamed."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    choices = _choices(content)
    if path not in (b"/v1/chat/completions", b"/v1/completions") or not choices:
        return None
    reported = content.pop("usage", None)
    if not all(isinstance(choice, dict) for choice in choices):
        return None
    events = [{**content, "choices": [_streamed(choice)]} for choice in choices]
    ends = [
        {"index": choice.get("index", 0), "delta": {}, "finish_reason": choice.get("finish_reason") or "stop"}
        for choice in choices
        if isinstance(choice.get("message"), dict)
    ]
    if ends:
        content["object"] = "chat.completion.chunk"
        events = [{**event, "object": content["object"]} for event in events]
        events += [{**content, "choices": [end]} for end in ends]
    if usage and reported:
        events.append({**content, "choices": [], "usage": reported})
    return b"".join((*(sse.event(msgspec.json.encode(event)) for event in events), sse.event(sse.DONE)))


def _streamed(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice of a chat completion as the choice of a chunk; choices of completions are the same in both."""
    message = choice.get("message")
    if not isinstance(message, dict):
        return choice
    delta = {"role": "assistant", **message}
    if isinstance(calls := delta.get("tool_calls"), list):
        delta["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls) if isinstance(call, dict)]
    rest = {key: value for key, value in choice.items() if key not in ("message", "finish_reason")}
    return {**rest, "delta": delta, "finish_reason": None}
