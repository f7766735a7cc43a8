"""Heads of messages that were read before: one that comes again is not parsed again.

What a head means follows from its bytes alone, and clients, gateways and models send the same one again and again, but
for a few headers whose values are a message's own. Only a head that the parser has taken is kept, and only where its
message is as long as it says and came in one piece; the values of those few headers are read only as plain words, which
mean the same to every parser.
"""

from __future__ import annotations

import re
from typing import Generic, TypeVar

KEPT = 512
"""Heads; the oldest goes first."""
LONGEST = 2048
"""Bytes of one: together they take two megabytes at most."""
DIGITS = 9
"""Of the length of a body, at most."""
END = b"\r\n\r\n"
_LENGTH = b"content-length"
_OWN = re.compile(
    rb"\r\n(content-length|x-request-id|traceparent|idempotency-key): ([0-9A-Za-z._-]{1,128})(?=\r\n)", re.IGNORECASE
)
"""What is a message's own; written otherwise, it belongs to the head, which then seldom comes again."""
Meaning = TypeVar("Meaning")
Key = TypeVar("Key")
Value = TypeVar("Value")


class Heads(Generic[Meaning]):
    """What heads mean: whole ones, and ones apart from what is each message's own."""

    def __init__(self) -> None:
        self._whole: dict[bytes, tuple[Meaning, int]] = {}
        self._shapes: dict[tuple[bytes, ...], tuple[Meaning, tuple[bytes, ...], int]] = {}

    def read(self, message: bytes) -> tuple[Meaning, dict[bytes, bytes] | None, bytes] | None:
        """What a message's head means, the headers in which it differs from that, and its body; None: parse it."""
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
        # What has more digits than any body is the parser's to refuse.
        if not length.isdigit() or len(length) > DIGITS or len(message) != end + int(length):
            return None
        return meaning, dict(zip(names, values, strict=True)), message[end:]

    def keep(self, message: bytes, length: bytes, meaning: Meaning) -> None:
        """A message was parsed; `length` is what its head says of its body."""
        end = message.find(END) + 4
        head = message[:end]
        # A parser may be lenient about ends of lines, and take for a head what ends elsewhere; lines may go on.
        plain = head.count(b"\n") == head.count(b"\r\n") and b"\n " not in head and b"\n\t" not in head
        if not plain or not length.isdigit() or len(message) != end + int(length) or end > LONGEST:
            return
        _put(self._whole, head, (meaning, int(length)))
        shape, values = _parts(head)
        names = tuple(name.lower() for name in shape[1::2])
        if names.count(_LENGTH) == 1 and values[names.index(_LENGTH)] == length:
            _put(self._shapes, shape, (meaning, names, names.index(_LENGTH)))


def _parts(head: bytes) -> tuple[tuple[bytes, ...], list[bytes]]:
    """A head without values that are a message's own, and these."""
    parts = _OWN.split(head)
    values = parts[2::3]
    del parts[2::3]
    return tuple(parts), values


def _put(known: dict[Key, Value], key: Key, value: Value) -> None:
    if len(known) >= KEPT:
        del known[next(iter(known))]
    known[key] = value
