"""API keys: random, shown once, stored as SHA-256 hashes, and published to all services through NATS."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from kit import bus, directory, publishing
from kit.database import Connection
from kit.directory import Grant
from psycopg.rows import dict_row

from user.models import IssuedKey, Key, Made, NewKey
from user.tables import VALID

PREFIX = "cf-"
_BYTES = 32
_COLUMNS = 'id, tenant, name, coalesce("user", \'\') AS "user", hint, scopes, created, expires, revoked, client'


_GRANT = "SELECT tenant, id, coalesce(\"user\", ''), scopes, expires, client FROM keys"


async def issue(
    connection: Connection, tenant: str, wanted: NewKey, key: str = "", maker: str = "", client: str = ""
) -> IssuedKey:
    """Create a key. `key`: a given value instead of a random one; `maker`: ID of the key that creates it.

    `client`: program that acts for the user with the key; empty: the user acts.
    """
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
        "client": client,
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            'INSERT INTO keys (id, tenant, "user", name, digest, hint, scopes, expires, maker, client) VALUES (%(id)s, '
            f"%(tenant)s, %(user)s, %(name)s, %(digest)s, %(hint)s, %(scopes)s, %(expires)s, %(maker)s, %(client)s) "
            f"RETURNING {_COLUMNS}",
            values,
        )
        row = await cursor.fetchone()
    assert row is not None, "an insert returns its row"
    await tell(connection, values["digest"])
    return IssuedKey(**row, key=key)


def plain(made: IssuedKey) -> Key:
    """A new key without its secret value."""
    return Key(**made.model_dump(exclude={"key"}))


async def tell(connection: Connection, digest: str, *, revoked: bool = False) -> None:
    """Queue the publication of a changed key. Revocations are published before all other changes."""
    await publishing.changed(connection, directory.BUCKET, bus.key(directory.KEY, digest), urgent=revoked)


async def published(connection: Connection, digest: str) -> Grant | None:
    """Rights of a key for publication; None for a revoked or expired key."""
    cursor = await connection.execute(f"{_GRANT} WHERE digest = %s AND {VALID}", (digest,))
    row = await cursor.fetchone()
    return _grant(row) if row else None


async def listed(connection: Connection, tenant: str) -> list[Key]:
    """A tenant's keys, newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM keys WHERE tenant = %s ORDER BY created DESC, id LIMIT 1000", (tenant,)
        )
        return [Key(**row) for row in await cursor.fetchall()]


async def revoke(
    connection: Connection, tenant: str, *, made: Made = Made.REVOKE, **which: str
) -> list[tuple[str, str]]:
    """Revoke the key with an `id`, all keys of a `user`, or all keys, and all keys that were created with them.

    The creator of a key never changes: keys that were kept at first are revoked when the same key, or an earlier one,
    is revoked again. An operator's key may have created keys of other tenants. Returns (tenant, ID) of the keys that
    were valid before.
    """
    ((column, value),) = which.items() or (("tenant", tenant),)
    # The lock blocks concurrent creation of keys: this query would not see them, and they would outlive their creator.
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
    """Lock a key against revocation until the end of the transaction. Raises ApiError(401) if it is revoked."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_MAKING,))
    cursor = await connection.execute(f"SELECT 1 FROM keys WHERE id = %s AND {VALID}", (key,))
    if await cursor.fetchone() is None:
        raise directory.unknown()


async def find(connection: Connection, key: str) -> Grant:
    """Rights of a key, from the database. Raises ApiError(401)."""
    found = await published(connection, directory.digest(key))
    if found is None:
        raise directory.unknown()
    return found


def _grant(row: Any) -> Grant:
    tenant, name, user, scopes, expires, client = row
    return Grant(tenant, name, user, tuple(scopes), expires.timestamp() if expires else None, client)


async def install(connection: Connection, tenant: str, key: str) -> None:
    """Store the installation key, and revoke the previous one. Keys that were created with it stay valid, since this is
    a rotation."""
    digest = directory.digest(key)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_INSTALLING,))
    await connection.execute(
        "INSERT INTO tenants (id, name) VALUES (%s, 'Whoever runs the platform') ON CONFLICT DO NOTHING", (tenant,)
    )
    await publishing.changed(connection, directory.BUCKET, bus.key(directory.TENANT, tenant))
    cursor = await connection.execute("SELECT 1 FROM keys WHERE digest = %s AND revoked IS NULL", (digest,))
    if await cursor.fetchone():
        return
    cursor = await connection.execute(
        "UPDATE keys SET revoked = now() WHERE tenant = %s AND name = %s AND revoked IS NULL RETURNING digest",
        (tenant, _INSTALLED),
    )
    for (old,) in await cursor.fetchall():
        await tell(connection, old, revoked=True)
    await connection.execute("DELETE FROM keys WHERE digest = %s", (digest,))  # revoked earlier
    await issue(connection, tenant, NewKey.model_validate({"name": _INSTALLED, "scopes": ["admin"]}), key)


_INSTALLED = "of the installation"
_INSTALLING = 0x6B657973
_MAKING = 0x6D616B65
"""Number of the advisory lock: shared while a key is created, exclusive while keys are revoked."""
