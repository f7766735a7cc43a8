"""Paths and formats of C2SP's tlog-tiles, for external readers of the log."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

_PART = re.compile(r"^(?:x\d{3}/)*\d{3}$")


def path_of(number: int) -> str:
    """Path of a tile's number: 1234067 becomes x001/x234/067."""
    parts = [f"{number % 1000:03d}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03d}")
    return "/".join(reversed(parts))


def number_of(path: str) -> int | None:
    """Number of a tile's path; None if the path is invalid."""
    if not _PART.match(path):
        return None
    number = int(path.replace("x", "").replace("/", ""))
    return number if path_of(number) == path else None


def bundle(entries: Sequence[bytes]) -> bytes:
    """Concatenated entries, each preceded by its length in two bytes."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unbundle(content: bytes) -> list[bytes]:
    """Split a bundle into entries. Raises ValueError if it is invalid."""
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
