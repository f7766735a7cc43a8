"""Estimates tokens that an upstream has not reported, from the texts of request and answer.

Usage events mark the counts as estimates. A streamed piece counts as at least one token, since servers send one piece
per token; other texts count by their length.
"""

from __future__ import annotations

from typing import Any

import msgspec

from router import sse

BYTES_PER_TOKEN = 4
"""UTF-8 bytes per token: about a word in English, one and a third characters in Chinese.
Source: https://help.openai.com/en/articles/4936856."""
_NO_TEXT = frozenset(
    {
        *("role", "type", "id", "object", "model", "index", "finish_reason", "status", "call_id", "item_id"),
        *("logprobs", "data", "url", "image_url", "file_data", "b64_json", "encrypted_content", "signature"),
    }
)
"""Fields of messages and answers with names, locations or media instead of text."""
_ASKED = ("messages", "prompt", "input", "instructions", "system", "tools", "functions", "response_format", "text")
_ANSWERED = ("choices", "output", "content")


def of_request(body: bytes) -> int:
    """Input tokens of a request's texts and token IDs. A body that is not a JSON object counts by its length."""
    content = _decoded(body)
    if not isinstance(content, dict):
        return _tokens(len(body))
    size = sum(_bytes_in(content.get(field)) for field in _ASKED)
    return max(1, _tokens(size))


def of_answer(body: bytes) -> int:
    """Output tokens of a whole answer's texts. A body that is not a JSON object counts by its length."""
    content = _decoded(body)
    if not isinstance(content, dict):
        return _tokens(len(body))
    return _tokens(sum(_bytes_in(content.get(field)) for field in _ANSWERED))


class Streamed:
    """Output tokens of a stream so far."""

    __slots__ = ("_bytes", "_pieces")

    def __init__(self) -> None:
        self._pieces = self._bytes = 0

    def feed(self, events: bytes) -> None:
        """Count complete events."""
        for event in sse.split(events):
            content = _decoded(sse.data(event) or b"")
            if isinstance(content, dict) and (size := _said(content)):
                self._pieces += 1
                self._bytes += size

    @property
    def tokens(self) -> int:
        """Tokens so far."""
        return max(self._pieces, _tokens(self._bytes))


def _said(content: dict[str, Any]) -> int:
    """Bytes of text in one event. Events of the Responses API repeat texts as a whole; only their deltas count."""
    if isinstance(delta := content.get("delta"), str):
        return 0 if "audio" in str(content.get("type")) else len(delta.encode("utf-8", "surrogatepass"))
    choices = content.get("choices")
    if not isinstance(choices, list):
        return 0
    return sum(
        _bytes_in(choice.get("delta")) + _bytes_in(choice.get("text")) for choice in choices if isinstance(choice, dict)
    )


def _bytes_in(value: Any) -> int:
    """Bytes of all texts in a value; a number in a list is a token ID. Not recursive, since values may nest deeply."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            size += 0 if one.startswith("data:") else len(one.encode("utf-8", "surrogatepass"))
        elif isinstance(one, dict):
            waiting += [inner for key, inner in one.items() if key not in _NO_TEXT]
        elif isinstance(one, list):
            ids = sum(isinstance(inner, int) for inner in one)
            size += ids * BYTES_PER_TOKEN
            if ids < len(one):
                waiting += one
    return size


def _tokens(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _decoded(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
