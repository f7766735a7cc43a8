"""Heads of messages that were read before: one that comes again, byte for byte, is not parsed again.

What a head means follows from its bytes alone, and clients with open connections send the same one again and again.
Only a head that the parser has taken is kept, and only where its message is as long as it says and came in one piece.
"""

from __future__ import annotations

from typing import Generic, TypeVar

KEPT = 512
"""Heads; the oldest goes first."""
LONGEST = 2048
"""Bytes of one: together they take a megabyte at most."""
END = b"\r\n\r\n"
Meaning = TypeVar("Meaning")


class Heads(Generic[Meaning]):
    """What heads meant, and how long the bodies after them are."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Meaning, int]] = {}

    def read(self, message: bytes) -> tuple[Meaning, bytes] | None:
        """What a whole message's head means, and its body; None: it has to be parsed."""
        end = message.find(END) + 4
        known = self._known.get(message[:end])
        if known is None or len(message) != end + known[1]:
            return None
        return known[0], message[end:]

    def keep(self, message: bytes, length: bytes, meaning: Meaning) -> None:
        """A message was parsed; `length` is what its head says of its body."""
        end = message.find(END) + 4
        head = message[:end]
        # A parser may be lenient about ends of lines, and take for a head what ends elsewhere.
        plain = head.count(b"\n") == head.count(b"\r\n")
        if plain and length.isdigit() and len(message) == end + int(length) and end <= LONGEST:
            if len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[head] = (meaning, int(length))
