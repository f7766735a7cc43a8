"""The log in the database: one writer at a time appends batches, each with its tiles and its checkpoint."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kit.database import Connection, Database

from audit import merkle, note, sealing, tiles
from audit.note import Checkpoint
from audit.sealing import Keys

_WRITER = 0x6175
"""Key of the advisory lock that the one who appends holds to the end of its transaction."""
_encode = msgspec.json.Encoder(order="sorted").encode
Event = dict[str, Any]


class TooLarge(ValueError):
    """An event that no entry can hold."""


class Ledger:
    """Appends and reads."""

    def __init__(self, database: Database, keys: Keys, signer: Ed25519PrivateKey, origin: str) -> None:
        self._database, self._keys, self._signer, self._origin = database, keys, signer, origin

    async def append(self, events: Sequence[Event]) -> dict[tuple[str, str], int]:
        """Write events down; returns the number of each by (source, id). One that is there already keeps its number.

        When it returns, they are on disk and under a signed checkpoint.
        """
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITER,))
            numbers = await self._there(connection, events)
            fresh = {(e["source"], e["id"]): e for e in events if (e["source"], e["id"]) not in numbers}
            if not fresh:
                return numbers
            size, edge = await _edge(connection)
            leaves = [await self._leaf(connection, event) for event in fresh.values()]
            await _copy(connection, size, list(fresh.values()), leaves)
            edge, changed = merkle.append(edge, size, [merkle.leaf(entry) for entry in leaves])
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO tiles VALUES (%s, %s, %s) "
                    "ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
                    [(level, number, hashes) for (level, number), hashes in changed.items()],
                )
            checkpoint = Checkpoint(self._origin, size + len(leaves), merkle.root(edge))
            await connection.execute(
                "INSERT INTO checkpoints VALUES (%s, %s, %s, %s)",
                (checkpoint.size, checkpoint.root, note.sign(checkpoint, self._signer), datetime.now(UTC)),
            )
            return numbers | {key: size + place for place, key in enumerate(fresh)}

    @staticmethod
    async def _there(connection: Connection, events: Sequence[Event]) -> dict[tuple[str, str], int]:
        cursor = await connection.execute(
            "SELECT e.source, e.id, e.number FROM unnest(%s::text[], %s::text[]) AS asked (source, id) "
            "JOIN entries e USING (source, id)",
            ([e["source"] for e in events], [e["id"] for e in events]),
        )
        return {(source, name): number for source, name, number in await cursor.fetchall()}

    async def _leaf(self, connection: Connection, event: Event) -> bytes:
        """The bytes of an entry: who, what and when in the clear; what it tells, sealed."""
        tenant = str(event["data"].get("tenant") or "")
        told = _encode({"subject": event.get("subject", ""), "data": event["data"]})
        about = f"{event['source']} {event['id']}"
        try:
            sealed = sealing.seal(await self._keys.get(connection, tenant), told, about)
        except sealing.Shredded:
            # That something happened is kept; what it was may not be.
            sealed = b""
        entry = _encode(
            {
                "source": event["source"],
                "id": event["id"],
                "type": event["type"],
                "time": event.get("time", ""),
                "tenant": tenant,
                "trace": event.get("traceparent", ""),
                "sealed": base64.b64encode(sealed).decode(),
            }
        )
        if len(entry) > tiles.MAX_ENTRY_BYTES:
            raise TooLarge(f"event {event['id']} is too large: {len(entry)} bytes, at most {tiles.MAX_ENTRY_BYTES}")
        return entry

    async def opened(self, connection: Connection, entry: bytes) -> Event:
        """An entry with what it tells; without it where the tenant's key was destroyed."""
        found = msgspec.json.decode(entry)
        sealed = base64.b64decode(found.pop("sealed"))
        try:
            key = await self._keys.get(connection, found["tenant"], make=False)
            if not sealed:
                raise sealing.Shredded(found["tenant"])
            told = msgspec.json.decode(sealing.unseal(key, sealed, f"{found['source']} {found['id']}"))
        except sealing.Shredded:
            return {**found, "shredded": True}
        return {**found, **told}


async def _edge(connection: Connection) -> tuple[int, list[bytes]]:
    """How many entries there are, and the unfinished tile of each level."""
    cursor = await connection.execute("SELECT max(size) FROM checkpoints")
    row = await cursor.fetchone()
    size = (row[0] if row else None) or 0
    edge: list[bytes] = []
    count = size
    while count:
        number, width = divmod(count, merkle.WIDTH)
        edge.append(await tile(connection, len(edge), number) if width else b"")
        count = number
    return size, edge


async def tile(connection: Connection, level: int, number: int) -> bytes:
    """The hashes of a tile. Raises KeyError where there is none."""
    cursor = await connection.execute("SELECT hashes FROM tiles WHERE level = %s AND number = %s", (level, number))
    row = await cursor.fetchone()
    if row is None:
        raise KeyError((level, number))
    return row[0]


async def _copy(connection: Connection, size: int, events: Sequence[Event], leaves: Sequence[bytes]) -> None:
    copy = "COPY entries (number, source, id, type, tenant, subject, time, trace, leaf) FROM STDIN"
    now = datetime.now(UTC)
    async with connection.cursor() as cursor, cursor.copy(copy) as rows:
        for place, (event, entry) in enumerate(zip(events, leaves, strict=True)):
            await rows.write_row(
                (
                    size + place,
                    event["source"],
                    event["id"],
                    event["type"],
                    str(event["data"].get("tenant") or ""),
                    event.get("subject") or None,
                    event.get("time") or now,
                    event.get("traceparent") or None,
                    entry,
                )
            )
