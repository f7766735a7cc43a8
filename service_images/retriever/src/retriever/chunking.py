"""Splits texts into passages, at ends of paragraphs and sentences where possible. Passages overlap."""

from __future__ import annotations

import re
from dataclasses import dataclass

CHARACTERS = 4
"""Average characters of a token. Source: OpenAI, "What are tokens and how to count them?"."""
_ENDS = (re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?。])\s+"), re.compile(r"\n"), re.compile(r"\s+"))


@dataclass(frozen=True)
class Passage:
    """Part of a text, by the positions of its characters."""

    start: int
    end: int


def passages(text: str, tokens: int, overlap: int) -> list[Passage]:
    """Split into passages of at most `tokens` tokens, each overlapping the one before by at most `overlap` tokens.

    Together they contain the whole text, except for white space at their edges.
    """
    most, shared = tokens * CHARACTERS, overlap * CHARACTERS
    found: list[Passage] = []
    start = _skip(text, 0)
    while start < len(text):
        end = len(text) if len(text) - start <= most else _end(text, start, start + most)
        trimmed = start + len(text[start:end].rstrip())
        found.append(Passage(start, trimmed))
        if end >= len(text):
            break
        start = max(_begin(text, end - shared, end), start + 1)
    return found


def _end(text: str, start: int, limit: int) -> int:
    """The last suitable end in the second half of the passage."""
    middle = (start + limit) // 2
    for end in _ENDS:
        last = None
        for match in end.finditer(text, middle, limit):
            last = match
        if last is not None:
            return last.end()
    return limit


def _begin(text: str, wanted: int, end: int) -> int:
    """The first beginning of a word at or after `wanted`."""
    if wanted >= end:
        return _skip(text, end)
    match = re.compile(r"\s+").search(text, wanted, end)
    return match.end() if match else wanted


def _skip(text: str, place: int) -> int:
    match = re.compile(r"\s*").match(text, place)
    return match.end() if match else place
