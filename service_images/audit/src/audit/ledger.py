"""The log in the database. One writer at a time appends a batch with its tiles.

The key from the installation's own secret signs the checkpoint in the same transaction. The secret store is asked after
it: while the store is away, the log grows, and readers get the last signed checkpoint.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kit import logs
from kit.database import Connection, Database
from kit.errors import unavailable
from kit.ledger import merkle
from kit.ledger.commitment import VERSION, commitment
from kit.ledger.note import Checkpoint
from kit.limits import AUDIT_CONTENT, AUDIT_ENTRY
from kit.secret_store import StoreRefused, StoreUnavailable

from audit import sealing
from audit.sealing import Keys
from audit.signing import OWN, Current, Signing

log = logs.get("audit.ledger")
_AGAIN_S = 1.0
"""Seconds after which a waiting writer asks the secret store again."""
_WRITER = 0x6175
"""Number of the advisory lock that the writer holds until the end of its transaction."""
_encode = msgspec.json.Encoder(order="sorted").encode
Event = dict[str, Any]


class Entry(NamedTuple):
    """Stored parts of an event."""

    leaf: bytes
    content: bytes | None
    """Encrypted content; None if the tenant's key is destroyed."""


class TooLarge(ValueError):
    """An event exceeds the size limits of entries."""


class Ledger:
    """Appends, reads and signs the log."""

    def __init__(self, database: Database, keys: Keys, signing: Signing) -> None:
        self._database, self._keys, self._signing = database, keys, signing
        self._signs = asyncio.Lock()
        self.waits_for = ""
        """Why the newest checkpoint is not signed; empty: it is, or nobody has tried."""

    async def statement(self, text: str) -> str:
        """Sign a text as a note of the log. Raises ApiError(503) without the secret store."""
        return await self._signing.statement(self._database, text)

    async def can_sign(self) -> None:
        """Raise ApiError(503) if the secret store is needed for `statement`, and does not answer."""
        await self._signing.check(self._database)

    async def published(self, connection: Connection) -> str:
        """The public keys that verify the log, as lines for `verify`."""
        return await self._signing.published(connection)

    @staticmethod
    async def alone(connection: Connection) -> None:
        """Lock the log for other writers until the end of the transaction."""
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_WRITER,))

    async def append(self, events: Sequence[Event], *, patient: bool = False) -> dict[tuple[str, str], int]:
        """Append events. Returns the entry number by (source, ID). Known events keep their number.

        After the return, the events are on disk. A signed checkpoint covers them, unless the secret store is away.
        Events of tenants whose keys only the store can give now are refused with ApiError(503), before anything is
        written. `patient`: they wait for the store, and the others are written at once.
        """
        numbers, left, said = dict[tuple[str, str], int](), list(events), ""
        while left:
            waiting = await self._keys.prepare(self._database, {_tenant(event) for event in left})
            if waiting and not patient:
                raise unavailable("The secret store, which makes and opens the keys of tenants,")
            ready = [event for event in left if _tenant(event) not in waiting]
            numbers |= await self._written(ready)
            left = [event for event in left if _tenant(event) in waiting]
            if left:
                if not said:
                    said = next(iter(waiting.values()))
                    log.warning("events wait for the secret store", events=len(left), reason=said)
                await asyncio.sleep(_AGAIN_S)
        return numbers

    async def prepared(self, tenant: str) -> None:
        """Wait until the tenant's key is in memory, or destroyed."""
        while await self._keys.prepare(self._database, {tenant}):
            await asyncio.sleep(_AGAIN_S)

    async def _written(self, events: Sequence[Event]) -> dict[tuple[str, str], int]:
        if not events:
            return {}
        async with self._database.transaction() as connection:
            numbers, signed = await self._record(connection, events)
        if not signed:
            await self.sign_newest()
        return numbers

    async def record(self, connection: Connection, events: Sequence[Event]) -> None:
        """Append events within a transaction of the caller. Its checkpoint may follow after the transaction."""
        await self._record(connection, events)

    async def _record(self, connection: Connection, events: Sequence[Event]) -> tuple[dict[tuple[str, str], int], bool]:
        """(number by source and ID, whether a signed checkpoint covers them)."""
        await self.alone(connection)
        numbers = await self._there(connection, events)
        fresh = {(e["source"], e["id"]): e for e in events if (e["source"], e["id"]) not in numbers}
        if not fresh:
            return numbers, True
        size, edge = await _edge(connection)
        entries = await self._entries(connection, list(fresh.values()))
        await _copy(connection, size, list(fresh.values()), entries)
        edge, changed = merkle.append(edge, size, [merkle.leaf(entry.leaf) for entry in entries])
        async with connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO tiles VALUES (%s, %s, %s) "
                "ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
                [(level, number, hashes) for (level, number), hashes in changed.items()],
            )
        current = await self._signing.current(connection)
        own = current is not None and current.number == OWN
        if own:
            checkpoint = Checkpoint(self._signing.origin, size + len(entries), merkle.root(edge))
            await _keep(connection, checkpoint, self._signing.sign_own(checkpoint.text()), OWN)
        return numbers | {key: size + place for place, key in enumerate(fresh)}, own

    async def sign_newest(self) -> bool:
        """Sign a checkpoint of the whole log, unless there is one. Returns False if the secret store is away."""
        async with self._signs:
            async with self._database.transaction() as connection:
                found = await self._unsigned(connection)
            if found is None:
                return True
            checkpoint, current = found
            try:
                if current is None:
                    raise StoreUnavailable("it has not shown the signing key yet")
                text = await self._signing.sign(checkpoint.text(), current)
            except (StoreUnavailable, StoreRefused) as error:
                if not self.waits_for:
                    log.warning(
                        "the newest checkpoint waits for the secret store", size=checkpoint.size, reason=str(error)
                    )
                self.waits_for = str(error)
                return False
            async with self._database.transaction() as connection:
                await _keep(connection, checkpoint, text, current.number)
            if self.waits_for:
                log.info("the secret store has signed the newest checkpoint", size=checkpoint.size)
                self.waits_for = ""
            return True

    async def _unsigned(self, connection: Connection) -> tuple[Checkpoint, Current | None] | None:
        """A checkpoint of the whole log, and the key to sign it with; None: it is signed."""
        cursor = await connection.execute("SELECT max(size) = (SELECT max(number) + 1 FROM entries) FROM checkpoints")
        row = await cursor.fetchone()
        if row is not None and row[0]:
            return None
        await self.alone(connection)  # so that all tiles are of one moment
        size, edge = await _edge(connection)
        if not size:
            return None
        checkpoint = Checkpoint(self._signing.origin, size, merkle.root(edge))
        return checkpoint, await self._signing.current(connection)

    @staticmethod
    async def _there(connection: Connection, events: Sequence[Event]) -> dict[tuple[str, str], int]:
        cursor = await connection.execute(
            "SELECT e.source, e.id, e.number FROM unnest(%s::text[], %s::text[]) AS asked (source, id) "
            "JOIN entries e USING (source, id)",
            ([e["source"] for e in events], [e["id"] for e in events]),
        )
        return {(source, name): number for source, name, number in await cursor.fetchall()}

    async def _entries(self, connection: Connection, events: Sequence[Event]) -> list[Entry]:
        tenants = {_tenant(event) for event in events}
        keys = await self._keys.get(connection, tenants, make=True)
        places = await _take_places(connection, Counter(_tenant(event) for event in events))
        return [_entry(event, keys.get(_tenant(event)), next(places[_tenant(event)])) for event in events]

    async def opened(self, connection: Connection, rows: Iterable[tuple[bytes, bytes | None]]) -> list[Event]:
        """Decrypt entries, given as (leaf, encrypted content). Entries without content are marked "shredded" if the
        tenant's key is destroyed, or "expired" after the retention period.

        `leaf` is the version of the entry. Version 1 does not commit to subject and data.
        """
        found = [(msgspec.json.decode(leaf), content) for leaf, content in rows]
        keys = await self._keys.get(connection, {leaf["tenant"] for leaf, _ in found})
        return [_opened(leaf, content, keys.get(leaf["tenant"])) for leaf, content in found]


def _tenant(event: Event) -> str:
    return str(event["data"].get("tenant") or "")


def content_of(event: Event) -> bytes:
    """Content that a leaf commits to by its hash: all fields that are not in the leaf in plain text."""
    return _encode({"subject": event["subject"], "data": event["data"]})


def _entry(event: Event, key: AESGCM | None, place: int) -> Entry:
    """An entry. Plain text: tenant, type and time. Committed to by a salted hash: subject, data and actor."""
    plain = content_of({"subject": event.get("subject", ""), "data": event["data"]})
    if len(plain) > AUDIT_CONTENT.most:
        raise TooLarge(f"event {event['id']} is too large: {len(plain)} bytes; {AUDIT_CONTENT}")
    salt = os.urandom(sealing.SALT_BYTES)
    leaf = _encode(
        {
            "v": VERSION,
            "source": event["source"],
            "id": event["id"],
            "type": event["type"],
            "time": event.get("time", ""),
            "tenant": _tenant(event),
            "trace": event.get("traceparent", ""),
            "place": place,
            # Only the fact of the event may be stored for a shredded tenant, not its content.
            "content": commitment(salt, plain) if key is not None else "",
        }
    )
    if len(leaf) > AUDIT_ENTRY.most:
        raise TooLarge(f"event {event['id']} is too large: {len(leaf)} bytes without its data; {AUDIT_ENTRY}")
    return Entry(leaf, sealing.seal(key, salt + plain, _about(event)) if key is not None else None)


def _about(event: Event) -> str:
    return f"{event['source']} {event['id']}"


def _opened(leaf: Event, content: bytes | None, key: AESGCM | None) -> Event:
    version = leaf.pop("v", 1)
    shown = {**leaf, "leaf": version}
    if version == 1:
        content = base64.b64decode(shown.pop("sealed"))
    committed = shown.pop("content", "")
    if key is not None and committed and not content:
        return {**shown, "expired": True}
    if key is None or not content:
        return {**shown, "shredded": True}
    plain = sealing.unseal(key, content, _about(leaf))
    if version == 1:
        return {**shown, **msgspec.json.decode(plain)}
    salt, plain = plain[: sealing.SALT_BYTES], plain[sealing.SALT_BYTES :]
    if commitment(salt, plain) != committed:
        raise ValueError(f"the content of {_about(leaf)} does not match the hash in its leaf")
    return {**shown, "salt": salt.hex(), **msgspec.json.decode(plain)}


async def _take_places(connection: Connection, wanted: Mapping[str, int]) -> dict[str, Iterator[int]]:
    """Next places by tenant. An entry's place is the number of earlier entries of the same tenant."""
    found: dict[str, Iterator[int]] = {}
    for tenant, count in sorted(wanted.items()):
        cursor = await connection.execute(
            "INSERT INTO places (tenant, entries) VALUES (%s, %s) ON CONFLICT (tenant) "
            "DO UPDATE SET entries = places.entries + excluded.entries RETURNING entries",
            (tenant, count),
        )
        row = await cursor.fetchone()
        assert row is not None, "an insert returns its row"
        found[tenant] = iter(range(row[0] - count, row[0]))
    return found


async def _edge(connection: Connection) -> tuple[int, list[bytes]]:
    """Number of entries, and the incomplete tile of each level."""
    cursor = await connection.execute("SELECT max(number) + 1 FROM entries")
    row = await cursor.fetchone()
    size = (row[0] if row else None) or 0
    edge: list[bytes] = []
    count = size
    while count:
        number, width = divmod(count, merkle.WIDTH)
        edge.append(await tile(connection, len(edge), number) if width else b"")
        count = number
    return size, edge


async def _keep(connection: Connection, checkpoint: Checkpoint, text: str, signer: int) -> None:
    await connection.execute(
        "INSERT INTO checkpoints (size, root, note, made, signer) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (checkpoint.size, checkpoint.root, text, datetime.now(UTC), signer),
    )


async def tile(connection: Connection, level: int, number: int) -> bytes:
    """Hashes of a tile. Raises KeyError if it does not exist."""
    cursor = await connection.execute("SELECT hashes FROM tiles WHERE level = %s AND number = %s", (level, number))
    row = await cursor.fetchone()
    if row is None:
        raise KeyError((level, number))
    return row[0]


async def _copy(connection: Connection, size: int, events: Sequence[Event], entries: Sequence[Entry]) -> None:
    copy = "COPY entries (number, source, id, type, tenant, subject, time, trace, leaf, content) FROM STDIN"
    now = datetime.now(UTC)
    async with connection.cursor() as cursor, cursor.copy(copy) as rows:
        for place, (event, entry) in enumerate(zip(events, entries, strict=True)):
            await rows.write_row(
                (
                    size + place,
                    event["source"],
                    event["id"],
                    event["type"],
                    _tenant(event),
                    (event.get("subject") or None) if entry.content is not None else None,
                    event.get("time") or now,
                    event.get("traceparent") or None,
                    entry.leaf,
                    entry.content,
                )
            )
