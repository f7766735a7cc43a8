"""Cache of parsed message heads: a head that occurs again is not parsed again.

The meaning of a head depends on its bytes only. Clients, gateways and models send the same head repeatedly, except for
a few headers with a value per message. A head is cached only if the parser has accepted it, and if its message had the
declared length and arrived in one piece. Values of the few varying headers are accepted only as plain words, which all
parsers interpret alike.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

KEPT = 512
"""Maximum number of heads; the oldest is dropped first."""
LONGEST = 2048
"""Maximum bytes of a head; together they need at most two megabytes."""
DIGITS = 9
"""Maximum digits of the length of a body."""
END = b"\r\n\r\n"
_LENGTH = b"content-length"
_OWN = re.compile(
    rb"\r\n(content-length|x-request-id|traceparent|idempotency-key): ([0-9A-Za-z._-]{1,128})(?=\r\n)", re.IGNORECASE
)
"""Headers with a value per message. In another notation they count as part of the head, which then rarely recurs."""
Meaning = TypeVar("Meaning")
Key = TypeVar("Key")
Value = TypeVar("Value")


class Heads(Generic[Meaning]):
    """Meanings of heads: complete ones, and ones without the values of each message."""

    def __init__(self) -> None:
        self._whole: dict[bytes, tuple[Meaning, int]] = {}
        self._shapes: dict[tuple[bytes, ...], tuple[Meaning, tuple[bytes, ...], int]] = {}

    def read(self, message: bytes) -> tuple[Meaning, dict[bytes, bytes] | None, bytes] | None:
        """(meaning of the head, headers that differ from it, body) of a message; None if it must be parsed."""
        end = message.find(END) + 4
        head = message[:end]
        whole = self._whole.get(head)
        if whole is not None:
            return (whole[0], None, message[end:]) if len(message) == end + whole[1] else None
        if not 4 <= end <= LONGEST:
            return None
        shape, values = _parts(head)
        known = self._shapes.get(shape)
        if known is None:
            return None
        meaning, names, place = known
        length = values[place]
        # The parser refuses lengths with more digits than any body has.
        if not length.isdigit() or len(length) > DIGITS or len(message) != end + int(length):
            return None
        return meaning, dict(zip(names, values, strict=True)), message[end:]

    def keep(self, message: bytes, length: bytes, meaning: Meaning) -> None:
        """Cache the head of a parsed message; `length` is the declared length of its body."""
        end = message.find(END) + 4
        head = message[:end]
        # Lenient parsers accept other line endings, and would end the head elsewhere; header lines may be folded.
        plain = head.count(b"\n") == head.count(b"\r\n") and b"\n " not in head and b"\n\t" not in head
        if not plain or not length.isdigit() or len(message) != end + int(length) or end > LONGEST:
            return
        _put(self._whole, head, (meaning, int(length)))
        shape, values = _parts(head)
        names = tuple(name.lower() for name in shape[1::2])
        if names.count(_LENGTH) == 1 and values[names.index(_LENGTH)] == length:
            _put(self._shapes, shape, (meaning, names, names.index(_LENGTH)))


def _parts(head: bytes) -> tuple[tuple[bytes, ...], list[bytes]]:
    """(head without the values of each message, these values)."""
    parts = _OWN.split(head)
    values = parts[2::3]
    del parts[2::3]
    return tuple(parts), values


def _put(known: dict[Key, Value], key: Key, value: Value) -> None:
    if len(known) >= KEPT:
        del known[next(iter(known))]
    known[key] = value
