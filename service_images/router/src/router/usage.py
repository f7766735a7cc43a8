"""What a request asks for and what an answer took, read from bytes without decoding more than needed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from router import sse

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly. Source: https://help.openai.com/en/articles/4936856."""
DEFAULT_OUTPUT_TOKENS = 256
"""Set aside for an answer whose request has no limit; what it took is settled afterwards."""


class Ask(msgspec.Struct):
    """The fields of a request that the router itself reads; the rest passes through."""

    model: str
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    user: str | None = None

    def output_tokens(self) -> int:
        """The most that the answer may take, or a guess."""
        limit = self.max_completion_tokens or self.max_tokens or self.max_output_tokens
        return DEFAULT_OUTPUT_TOKENS if limit is None or limit < 0 else limit


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Answer(msgspec.Struct):
    usage: _Usage | None = None


ask = msgspec.json.Decoder(Ask).decode
_answer = msgspec.json.Decoder(_Answer).decode
_REPORTED = re.compile(rb'"usage"\s*:\s*\{').search


def of_answer(body: bytes) -> tuple[int, int] | None:
    """(input, output) tokens of an answer or a chunk of one; None where it does not say."""
    try:
        usage = _answer(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if usage is None:
        return None
    return usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens


def told(events: bytes) -> bool:
    """Whether events may report a usage; many servers send `"usage":null` with each event."""
    return _REPORTED(events) is not None


def of_events(events: bytes) -> tuple[int, int] | None:
    """The last usage that whole events report, if one of them does."""
    found = None
    for event in sse.split(events):
        if told(event):
            found = of_answer(sse.data(event) or b"") or found
    return found


def estimate(body: bytes) -> int:
    """Tokens of a request's text, before any tokenizer has seen it."""
    return len(body) // CHARACTERS_PER_TOKEN + 1
