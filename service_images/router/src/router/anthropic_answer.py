"""Translates chat completions to answers of Anthropic's Messages API.

Source: https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

from typing import Any

import msgspec
from kit.errors import ApiError, ErrorType

Json = dict[str, Any]
_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def stop_of(
    finish: str | None, sequence: Any, *, called: bool = False, refused: bool = False
) -> tuple[str, str | None]:
    """(stop_reason, stop_sequence) of an answer. `sequence`: vLLM's stop_reason, the matched stop string."""
    if finish == "stop" and isinstance(sequence, str) and sequence:
        return "stop_sequence", sequence
    if refused:
        return "refusal", None
    if called and finish in ("stop", None):
        return "tool_use", None  # servers report "stop" after a call that the request has forced
    return _STOP.get(finish or "stop", "end_turn"), None


def usage_of(reported: Any) -> Json:
    """Anthropic's usage, in which `input_tokens` excludes tokens read from a cache."""
    found = reported if isinstance(reported, dict) else {}
    details = found.get("prompt_tokens_details")
    asked = _count(found.get("prompt_tokens"))
    cached = min(asked, _count(details.get("cached_tokens")) if isinstance(details, dict) else 0)
    return {
        "input_tokens": asked - cached,
        "output_tokens": _count(found.get("completion_tokens")),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "service_tier": "standard",
    }


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _arguments(text: Any, *, cut: bool) -> Json:
    """Arguments of a call; empty if the token limit has cut them, which stop_reason reports."""
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError):
        found = None
    if isinstance(found, dict):
        return found
    if cut:
        return {}
    raise ApiError(502, "The model calls a tool with arguments that are not a JSON object.", ErrorType.UPSTREAM,
                   code="bad_answer")  # fmt: skip


def _sources(annotations: Any) -> str:
    """Cited sources as text, since Anthropic's citations need more data than OpenAI's contain."""
    cited = [one["url_citation"] for one in annotations or () if one.get("type") == "url_citation"]
    if len(cited) < len(annotations or ()):
        raise ValueError("only URLs can be cited")
    return "".join(f"\n[{number}] {one.get('title', '')} {one['url']}" for number, one in enumerate(cited, 1))


def _content(choice: Json) -> list[Json]:
    said = choice["message"]
    if said.get("audio"):
        raise ValueError("a message has no audio")
    content: list[Json] = []
    if thought := said.get("reasoning_content") or said.get("reasoning"):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    sources = _sources(said.get("annotations"))
    if text := (said.get("content") or "") + (said.get("refusal") or "") + sources:
        content.append({"type": "text", "text": text})
    calls = list(said.get("tool_calls") or ())
    if call := said.get("function_call"):
        calls.append({"id": "call_0", "function": call})
    for call in calls:
        function = call["function"]
        found = _arguments(function.get("arguments"), cut=choice.get("finish_reason") == "length")
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": found})
    return content


def answer(body: bytes, request_id: str) -> bytes:
    """Translate a chat completion to a message. Raises ApiError if it is invalid."""
    try:
        completion = msgspec.json.decode(body)
        choice = completion["choices"][0]
        content = _content(choice)
        reason, sequence = stop_of(
            choice.get("finish_reason"),
            choice.get("stop_reason"),
            called=any(block["type"] == "tool_use" for block in content),
            refused=bool(choice["message"].get("refusal")),
        )
        message = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": completion.get("model", ""),
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage_of(completion.get("usage")),
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ApiError(
            502, "The model's answer is not a valid completion.", ErrorType.UPSTREAM, code="bad_answer"
        ) from None
    return msgspec.json.encode(message)
