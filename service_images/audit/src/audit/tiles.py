"""Paths and formats of C2SP's tlog-tiles: how others read the log."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

_PART = re.compile(r"^(?:x\d{3}/)*\d{3}$")


def path_of(number: int) -> str:
    """A tile's number as a path: 1234067 is x001/x234/067."""
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def number_of(path: str) -> int | None:
    """The other way round; None for what is no such path."""
    if not _PART.match(path):
        return None
    number = int(path.replace("x", "").replace("/", ""))
    return number if path_of(number) == path else None


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries one after the other, each after its length in two bytes."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unbundle(content: bytes) -> list[bytes]:
    """The other way round. Raises ValueError for what is no bundle."""
    found: list[bytes] = []
    offset = 0
    while offset < len(content):
        if offset + 2 > len(content):
            raise ValueError("it ends within a length")
        (size,) = struct.unpack_from(">H", content, offset)
        entry = content[offset + 2 : offset + 2 + size]
        if len(entry) != size:
            raise ValueError("it ends within an entry")
        found.append(entry)
        offset += 2 + size
    return found
