"""API keys: random, shown once, kept as their SHA-256; told to every replica of every service through NATS."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from kit import bus, directory, telling
from kit.database import Connection
from kit.directory import Grant
from psycopg.rows import dict_row

from user.models import IssuedKey, Key, Made, NewKey
from user.tables import VALID

PREFIX = "cf-"
_BYTES = 32
_COLUMNS = 'id, tenant, name, coalesce("user", \'\') AS "user", hint, scopes, created, expires, revoked'


_GRANT = "SELECT tenant, id, coalesce(\"user\", ''), scopes, expires FROM keys"


async def issue(connection: Connection, tenant: str, wanted: NewKey, key: str = "", maker: str = "") -> IssuedKey:
    """Make a key; `key`: it is this one; `maker`: id of the key that asks for it."""
    key = key or PREFIX + secrets.token_urlsafe(_BYTES)
    values = {
        "id": uuid.uuid4().hex,
        "tenant": tenant,
        "user": wanted.user or None,
        "name": wanted.name,
        "digest": directory.digest(key),
        "hint": key[:8],
        "scopes": [scope.value for scope in wanted.scopes],
        "expires": wanted.expires,
        "maker": maker or None,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            'INSERT INTO keys (id, tenant, "user", name, digest, hint, scopes, expires, maker) VALUES (%(id)s, '
            f"%(tenant)s, %(user)s, %(name)s, %(digest)s, %(hint)s, %(scopes)s, %(expires)s, %(maker)s) "
            f"RETURNING {_COLUMNS}",
            values,
        )
        row = await cursor.fetchone()
    assert row is not None, "an insert returns its row"
    await tell(connection, values["digest"])
    return IssuedKey(**row, key=key)


def plain(made: IssuedKey) -> Key:
    """A key that was just made, without what it is."""
    return Key(**made.model_dump(exclude={"key"}))


async def tell(connection: Connection, digest: str, *, revoked: bool = False) -> None:
    """What this key may do has changed. A revocation goes before all other changes."""
    await telling.changed(connection, directory.BUCKET, bus.key(directory.KEY, digest), urgent=revoked)


async def told(connection: Connection, digest: str) -> Grant | None:
    """What a key may do, for who is told; None: nothing."""
    cursor = await connection.execute(f"{_GRANT} WHERE digest = %s AND {VALID}", (digest,))
    row = await cursor.fetchone()
    return _grant(row) if row else None


async def listed(connection: Connection, tenant: str) -> list[Key]:
    """A tenant's keys, the newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM keys WHERE tenant = %s ORDER BY created DESC, id LIMIT 1000", (tenant,)
        )
        return [Key(**row) for row in await cursor.fetchall()]


async def revoke(
    connection: Connection, tenant: str, *, made: Made = Made.REVOKE, **which: str
) -> list[tuple[str, str]]:
    """Revoke the key of an `id`, all of a `user`, or all, and all generations of keys that were made with them.

    Who made a key never changes: what was kept once goes when the same key, or an earlier one, is revoked again. A key
    may have made keys of other tenants, if it was an operator's. Returns (tenant, id) of those that were valid.
    """
    ((column, value),) = which.items() or (("tenant", tenant),)
    # Nobody makes a key meanwhile: it would not be seen here, and outlive its maker.
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
    cursor = await connection.execute(
        'WITH RECURSIVE gone AS (SELECT id FROM keys WHERE tenant = %s AND "' + column + '" = %s '
        "UNION SELECT made.id FROM keys made JOIN gone ON made.maker = gone.id WHERE %s) "
        "UPDATE keys SET revoked = now() FROM gone WHERE keys.id = gone.id AND keys.revoked IS NULL "
        "RETURNING keys.tenant, keys.id, keys.digest",
        (tenant, value, made is Made.REVOKE),
    )
    rows = await cursor.fetchall()
    for *_, digest in rows:
        await tell(connection, digest, revoked=True)
    return [(owner, name) for owner, name, _ in rows]


async def alive(connection: Connection, key: str) -> None:
    """To the end of the transaction a key that makes another one is not revoked. Raises ApiError(401) if it was."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_MAKING,))
    cursor = await connection.execute(f"SELECT 1 FROM keys WHERE id = %s AND {VALID}", (key,))
    if await cursor.fetchone() is None:
        raise directory.unknown()


async def find(connection: Connection, key: str) -> Grant:
    """What the holder of a key may do, by the tables themselves. Raises ApiError(401)."""
    found = await told(connection, directory.digest(key))
    if found is None:
        raise directory.unknown()
    return found


def _grant(row: Any) -> Grant:
    tenant, name, user, scopes, expires = row
    return Grant(tenant, name, user, tuple(scopes), expires.timestamp() if expires else None)


async def install(connection: Connection, tenant: str, key: str) -> None:
    """The operator's key is this one; an earlier one is revoked. Keys that were made with that one stay: rotation is no
    revocation."""
    digest = directory.digest(key)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_INSTALLING,))
    await connection.execute(
        "INSERT INTO tenants (id, name) VALUES (%s, 'Whoever runs the platform') ON CONFLICT DO NOTHING", (tenant,)
    )
    await telling.changed(connection, directory.BUCKET, bus.key(directory.TENANT, tenant))
    cursor = await connection.execute("SELECT 1 FROM keys WHERE digest = %s AND revoked IS NULL", (digest,))
    if await cursor.fetchone():
        return
    cursor = await connection.execute(
        "UPDATE keys SET revoked = now() WHERE tenant = %s AND name = %s AND revoked IS NULL RETURNING digest",
        (tenant, _INSTALLED),
    )
    for (old,) in await cursor.fetchall():
        await tell(connection, old, revoked=True)
    await connection.execute("DELETE FROM keys WHERE digest = %s", (digest,))  # it was revoked, and is wanted again
    await issue(connection, tenant, NewKey.model_validate({"name": _INSTALLED, "scopes": ["admin"]}), key)


_INSTALLED = "of the installation"
_INSTALLING = 0x6B657973
_MAKING = 0x6D616B65
"""Key of the advisory lock: shared while a key is made, alone while keys are revoked."""
