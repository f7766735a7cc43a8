"""Exports of a tenant's entries for a range of the log, with proofs, one line per entry.

The first line is the checkpoint. The last line is a signed statement of the log: the tenant, the range, the number of
entries, and a hash over all entries in order. Together with each line's proof, its commitment to its content, and
consecutive numbers per tenant, this detects every removed, added, changed or moved line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
from kit.database import Database
from kit.ledger import merkle

from audit import reading
from audit.ledger import Ledger

_PAGE = 200
"""Number of entries in memory at a time."""
_TITLE = "cogniforge audit export"
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True)
class Statement:
    """The log's signed statement about an export."""

    tenant: str
    size: int
    """Size of the log in the checkpoint."""
    first: int
    """First entry number of the range."""
    last: int
    """Last entry number of the range; -1 for an empty log."""
    count: int
    digest: str
    """Hash of `Digest`, in hexadecimal."""

    def text(self) -> str:
        """The signed text. Tenants are JSON strings, so that each takes one line."""
        span = f"{self.size}\n{self.first} {self.last}\n{self.count}\n{self.digest}"
        return f"{_TITLE}\n{json.dumps(self.tenant)}\n{span}\n"


def parse(text: str) -> Statement:
    """Parse a statement. Raises ValueError."""
    title, tenant, size, span, count, digest, end = text.split("\n")
    first, last = span.split(" ")
    found = Statement(json.loads(tenant), int(size), int(first), int(last), int(count), digest)
    if (title, end) != (_TITLE, "") or found.text() != text:
        raise ValueError("the text is not a statement of an export")
    return found


class Digest:
    """A hash over entries in order: their leaves and their shown content."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, number: int, leaf: bytes, event: dict[str, Any]) -> None:
        """Add an entry."""
        shown = hashlib.sha256(_encode(event)).digest()
        self._hash.update(number.to_bytes(8, "big") + merkle.leaf(leaf) + shown)
        self.count += 1

    def hex(self) -> str:
        """Hash of all entries so far."""
        return self._hash.hexdigest()


async def export(log: Ledger, database: Database, tenant: str, first: int, last: int | None) -> AsyncIterator[bytes]:
    """Lines of an export with a tenant's entries from number `first` to `last`. The default is the newest.

    Entries are read page by page. An export without its last line is incomplete.
    """
    async with database.transaction() as connection:
        newest = await reading.checkpoint(connection)
    if newest is None:
        return
    size, _, text = newest
    await log.can_sign()  # rather than a truncated export
    end = min(size - 1, last if last is not None else size - 1)
    yield _line({"checkpoint": text})
    digest, after = Digest(), first - 1
    while True:
        async with database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT number, leaf, content FROM entries WHERE tenant = %s AND number > %s AND number <= %s "
                "ORDER BY number LIMIT %s",
                (tenant, after, end, _PAGE),
            )
            rows = await cursor.fetchall()
            opened = await log.opened(connection, (row[1:] for row in rows))
            read = await reading.tiles_for(connection, size, *(row[0] for row in rows))
        for (number, leaf, _), event in zip(rows, opened, strict=True):
            digest.add(number, leaf, event)
            proof = [hash_.hex() for hash_ in merkle.inclusion(read, number, size)]
            yield _line({"number": number, "entry": leaf.decode(), "proof": proof, "event": event})
        if len(rows) < _PAGE:
            break
        after = rows[-1][0]
    statement = Statement(tenant, size, first, end, digest.count, digest.hex())
    yield _line({"end": await log.statement(statement.text())})


def _line(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
