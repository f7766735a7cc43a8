"""Text of JSON and JSON lines, without building their values, which would need many times the memory of the text.

Escapes are resolved, and each member and item is on its own line. Duplicate members stay.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from retriever.reading import characters
from retriever.reading.errors import Unreadable

_ESCAPE = re.compile(
    r"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{,]')
_PIECES = 20_000


def json_text(content: bytes) -> str:
    """Text of a JSON file."""
    return _lines(characters.decode(content))


def json_lines(content: bytes) -> str:
    """Text of a file with one JSON value per line. Empty lines between them let passages end there."""
    found: list[str] = []
    for number, line in enumerate(characters.decode(content).splitlines(), 1):
        if line.strip():
            try:
                found.append(_lines(line))
            except Unreadable as error:
                raise Unreadable(f"line {number}: {error}") from None
    return "\n\n".join(found)


def _lines(text: str) -> str:
    # An unpaired surrogate is not a character, but json.dumps and JavaScript write such escapes.
    text = _ESCAPE.sub(lambda found: "\\ufffd" if found[2] else found[0], text)
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        raise Unreadable(f"the file cannot be read: {error}") from None
    whole: list[str] = []
    pieces: list[str] = []
    place = 0
    for token in _TOKEN.finditer(text):
        pieces.append(text[place : token.start()])
        pieces.append(_shown(token[0]))
        place = token.end()
        if len(pieces) >= _PIECES:  # many small texts need more memory than one
            whole.append("".join(pieces))
            pieces.clear()
    return "".join((*whole, *pieces, text[place:]))


def _shown(token: str) -> str:
    if token[0] != '"':
        return token + "\n"
    found: Any = json.loads(token) if "\\" in token else token[1:-1]
    return f'"{found}"'
