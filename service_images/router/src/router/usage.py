"""Reads the parameters of requests and the usage of answers, without decoding more bytes than needed."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from router import sse

CHARACTERS_PER_TOKEN = 4
"""Bytes per token of English text, roughly. Source: https://help.openai.com/en/articles/4936856."""
Reported = tuple[int | None, int | None]
"""(input, output) tokens as reported by an upstream; None if not reported."""
MOST_TOKENS = 2**31 - 1
"""Maximum tokens of an answer or a limit. No model processes as many, so a larger number is a mistake."""
DEFAULT_OUTPUT_TOKENS = 256
"""Tokens reserved for an answer without a limit; the actual usage is settled afterwards."""


class Ask(msgspec.Struct, gc=False):
    """Fields of a request that the Router reads; others are forwarded."""

    model: str
    messages: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    user: str | None = None
    metadata: Any = None
    n: int | None = None
    best_of: int | None = None

    def output_tokens(self) -> int:
        """Maximum output tokens of all answers together, or an estimate."""
        limit = self.max_completion_tokens or self.max_tokens or self.max_output_tokens
        each = DEFAULT_OUTPUT_TOKENS if limit is None or limit < 0 else min(limit, MOST_TOKENS)
        return each * self.answers() if self.n or self.best_of or self.prompt else each

    def answers(self) -> int:
        """Number of requested answers: `n` for each prompt of a list."""
        prompts = 1
        if memoryview(self.prompt)[:1] == b"[":
            listed = msgspec.json.decode(self.prompt)
            # A list of numbers is one prompt, as token IDs.
            prompts = sum(isinstance(one, str | list) for one in listed) or 1
        return max(self.n or 1, self.best_of or 1) * prompts


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Usual(msgspec.Struct):
    """An answer in the usual format, decoded without the rest."""

    usage: _Usage


class _Answer(msgspec.Struct):
    usage: Any = None
    response: Any = None
    """Events of the Responses API contain their usage in this field."""


ask = msgspec.json.Decoder(Ask).decode
_usual = msgspec.json.Decoder(_Usual).decode
_answer = msgspec.json.Decoder(_Answer).decode
_REPORTED = re.compile(rb'"usage"\s*:\s*\{').search


def of_answer(body: bytes) -> Reported | None:
    """Tokens that an answer or a chunk reports; None if it reports none.

    Both values are independent: an upstream may omit one, or send null for it.
    """
    try:
        usual = _usual(body).usage
        if usual.prompt_tokens > 0 <= usual.completion_tokens <= MOST_TOKENS >= usual.prompt_tokens:
            return usual.prompt_tokens, usual.completion_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        answer = _answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    found = answer.usage
    if found is None and isinstance(answer.response, dict):
        found = answer.response.get("usage")
    if not isinstance(found, dict):
        return None
    asked = _number(found, "prompt_tokens", "input_tokens")
    said = _number(found, "completion_tokens", "output_tokens")
    if said is None and asked is not None and (total := _number(found, "total_tokens", "")) is not None:
        said = max(0, total - asked)
    # No request is empty, so zeros come from servers that do not count.
    return (asked or None, said) if asked or said else None


def _number(found: dict[str, Any], *names: str) -> int | None:
    """The first of these fields with a number of tokens."""
    for name in names:
        value = found.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS:
            return int(value)
    return None


def may_report(events: bytes) -> bool:
    """Whether events may report usage; many servers send `"usage":null` with each event."""
    at = events.find(b'"usage"')
    return at >= 0 and _REPORTED(events, at) is not None


def of_events(events: bytes) -> Reported | None:
    """The last usage that complete events report; None if there is none."""
    found = None
    for event in sse.split(events):
        if may_report(event):
            found = of_answer(sse.data(event) or b"") or found
    return found


def estimate(body: bytes) -> int:
    """Estimated tokens of a request's text, without a tokenizer."""
    return len(body) // CHARACTERS_PER_TOKEN + 1
