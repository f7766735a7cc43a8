"""Queries of the log: entries, proofs, tiles, and the state of a subject at a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kit.database import Connection
from kit.ledger import merkle
from kit.ledger.merkle import HASH_BYTES, WIDTH

from audit import ledger, tiles
from audit.ledger import Ledger

LIMIT = 1000


async def tiles_for(connection: Connection, size: int, *numbers: int) -> merkle.ReadTile:
    """The tiles between these entries, the edge and the root, which their proofs need."""
    wanted: set[tuple[int, int]] = set()
    level = 0
    while True:
        wanted |= {(level, (number >> (8 * level)) // WIDTH) for number in (*numbers, size - 1)}
        level += 1
        if (size - 1) >> (8 * level) == 0:
            break
    cursor = await connection.execute(
        "SELECT t.level, t.number, t.hashes FROM unnest(%s::int[], %s::bigint[]) AS w (level, number) "
        "JOIN tiles t USING (level, number)",
        ([level for level, _ in wanted], [number for _, number in wanted]),
    )
    found = {(level, number): hashes for level, number, hashes in await cursor.fetchall()}
    return lambda level, number: found[level, number]


async def checkpoint(connection: Connection, size: int | None = None) -> tuple[int, bytes, str] | None:
    """(size, root, note) of the newest checkpoint, or of the one with exactly `size` entries."""
    which = "WHERE size = %s" if size is not None else "ORDER BY size DESC LIMIT 1"
    cursor = await connection.execute(
        f"SELECT size, root, note FROM checkpoints {which}", (size,) if size is not None else ()
    )
    return await cursor.fetchone()


async def bundle(connection: Connection, number: int, width: int) -> bytes | None:
    """Entries in the format of tlog-tiles; None if the log has fewer entries."""
    cursor = await connection.execute(
        "SELECT leaf FROM entries WHERE number >= %s AND number < %s ORDER BY number",
        (number * WIDTH, number * WIDTH + width),
    )
    leaves = [row[0] for row in await cursor.fetchall()]
    return tiles.bundle(leaves) if len(leaves) == width else None


async def tile(connection: Connection, level: int, number: int, width: int) -> bytes | None:
    """The first `width` hashes of a tile; None if it has fewer."""
    try:
        hashes = await ledger.tile(connection, level, number)
    except KeyError:
        return None
    wanted = width * HASH_BYTES
    return hashes[:wanted] if len(hashes) >= wanted else None


async def find(
    log: Ledger, connection: Connection, tenant: str, subject: str, kind: str, after: int, limit: int
) -> list[dict[str, Any]]:
    """Entries in order, filtered by tenant, subject and type if given."""
    conditions: list[str] = ["number > %s"]
    values: list[Any] = [after]
    if tenant:
        conditions.append("tenant = %s")
        values.append(tenant)
    if subject:
        conditions.append("subject = %s")
        values.append(subject)
    if kind:
        conditions.append("type = %s")
        values.append(kind)
    cursor = await connection.execute(
        f"SELECT number, leaf, content FROM entries WHERE {' AND '.join(conditions)} ORDER BY number LIMIT %s",
        (*values, min(limit, LIMIT)),
    )
    rows = await cursor.fetchall()
    opened = await log.opened(connection, (row[1:] for row in rows))
    return [{"number": row[0], **event} for row, event in zip(rows, opened, strict=True)]


async def about(
    log: Ledger, connection: Connection, tenant: str, subject: str, limit: int
) -> tuple[list[dict[str, Any]], str]:
    """(entries about a subject, each with its inclusion proof; the checkpoint that they prove), newest first.

    `tenant`: only its entries; empty: those of all tenants. The fields are those of an export, and `content`: the text
    that the leaf commits to, null without content.
    """
    which = "tenant = %(tenant)s AND subject = %(subject)s" if tenant else "subject = %(subject)s"
    cursor = await connection.execute(
        f"SELECT number, leaf, content FROM entries WHERE {which} ORDER BY number DESC LIMIT %(limit)s",
        {"tenant": tenant, "subject": subject, "limit": limit},
    )
    rows = await cursor.fetchall()
    newest = await checkpoint(connection)
    if not rows or newest is None:
        return [], ""
    size, _, text = newest
    opened = await log.opened(connection, (row[1:] for row in rows))
    read = await tiles_for(connection, size, *(row[0] for row in rows))
    found = [
        {
            "number": number,
            "entry": leaf.decode(),
            "content": ledger.content_of(event).decode() if "data" in event else None,
            "proof": [hash_.hex() for hash_ in merkle.inclusion(read, number, size)],
            "event": event,
        }
        for (number, leaf, _), event in zip(rows, opened, strict=True)
    ]
    return found, text


async def state(
    log: Ledger, connection: Connection, tenant: str, subject: str, at: datetime
) -> tuple[dict[str, Any] | None, int, int]:
    """(state of a subject at a time, number of events that it is computed from, number of the last entry).

    Each event contains its change: `after` replaces fields, and "deleted" ends the subject.
    """
    cursor = await connection.execute(
        "SELECT number, leaf, content FROM entries WHERE tenant = %s AND subject = %s AND time <= %s ORDER BY number",
        (tenant, subject, at),
    )
    found: dict[str, Any] | None = None
    count, last = 0, -1
    rows = await cursor.fetchall()
    opened = await log.opened(connection, (row[1:] for row in rows))
    for (number, *_), event in zip(rows, opened, strict=True):
        count, last = count + 1, number
        if event.get("shredded") or event.get("expired"):
            continue
        data = event["data"]
        if data.get("change") in ("deleted", "revoked"):
            found = None
            continue
        fields = data["after"] if isinstance(data.get("after"), dict) else data
        found = {**(found or {}), **{k: v for k, v in fields.items() if k not in ("change", "actor")}}
    return found, count, last
