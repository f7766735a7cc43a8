"""JSON and JSON lines, as they are written, without building their values: a value takes many times its text's memory.

Escapes in texts are resolved, and each member and item is on a line of its own. Members that are there twice stay.
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
    """The text of a JSON file."""
    return _lines(characters.decode(content))


def json_lines(content: bytes) -> str:
    """The text of a file with a JSON value in each line; lines are apart, so that passages end between them."""
    found: list[str] = []
    for number, line in enumerate(characters.decode(content).splitlines(), 1):
        if line.strip():
            try:
                found.append(_lines(line))
            except Unreadable as error:
                raise Unreadable(f"line {number}: {error}") from None
    return "\n\n".join(found)


def _lines(text: str) -> str:
    # A half of a surrogate pair is no character: json.dumps and JavaScript write such escapes all the same.
    text = _ESCAPE.sub(lambda found: "\\ufffd" if found[2] else found[0], text)
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        raise Unreadable(f"it cannot be read: {error}") from None
    whole: list[str] = []
    pieces: list[str] = []
    place = 0
    for token in _TOKEN.finditer(text):
        pieces.append(text[place : token.start()])
        pieces.append(_shown(token[0]))
        place = token.end()
        if len(pieces) >= _PIECES:  # many small texts take more memory than one
            whole.append("".join(pieces))
            pieces.clear()
    return "".join((*whole, *pieces, text[place:]))


def _shown(token: str) -> str:
    if token[0] != '"':
        return token + "\n"
    found: Any = json.loads(token) if "\\" in token else token[1:-1]
    return f'"{found}"'
