"""API keys: random, shown once, kept as their SHA-256; told to every replica of every service through NATS."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

import msgspec
from kit import bus, directory, telling
from kit.bus import Bus
from kit.database import Connection, Database
from kit.directory import Grant, TenantEntry
from kit.telling import Telling
from psycopg.rows import dict_row

from user.models import IssuedKey, Key, NewKey
from user.tables import POLICIES, VALID

PREFIX = "cf-"
_BYTES = 32
_COLUMNS = 'id, tenant, name, coalesce("user", \'\') AS "user", hint, scopes, created, expires, revoked'


async def issue(connection: Connection, tenant: str, wanted: NewKey, key: str = "") -> IssuedKey:
    """Make a key; `key`: it is this one."""
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
    }
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            'INSERT INTO keys (id, tenant, "user", name, digest, hint, scopes, expires) VALUES (%(id)s, %(tenant)s, '
            f"%(user)s, %(name)s, %(digest)s, %(hint)s, %(scopes)s, %(expires)s) RETURNING {_COLUMNS}",
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


async def listed(connection: Connection, tenant: str) -> list[Key]:
    """A tenant's keys, the newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            f"SELECT {_COLUMNS} FROM keys WHERE tenant = %s ORDER BY created DESC, id LIMIT 1000", (tenant,)
        )
        return [Key(**row) for row in await cursor.fetchall()]


async def revoke(connection: Connection, tenant: str, **which: str) -> list[str]:
    """Revoke the key of an `id`, all of a `user`, or all; returns the ids of those that were valid."""
    ((column, value),) = which.items() or (("tenant", tenant),)
    cursor = await connection.execute(
        f'UPDATE keys SET revoked = now() WHERE tenant = %s AND "{column}" = %s AND revoked IS NULL '
        "RETURNING id, digest",
        (tenant, value),
    )
    rows = await cursor.fetchall()
    for _, digest in rows:
        await tell(connection, digest, revoked=True)
    return [row[0] for row in rows]


async def find(connection: Connection, key: str) -> Grant:
    """What the holder of a key may do, by the tables themselves. Raises ApiError(401)."""
    cursor = await connection.execute(
        f"SELECT tenant, id, coalesce(\"user\", ''), scopes, expires FROM keys WHERE digest = %s AND {VALID}",
        (directory.digest(key),),
    )
    row = await cursor.fetchone()
    if row is None:
        raise directory.unknown()
    return _grant(row)


def _grant(row: Any) -> Grant:
    tenant, name, user, scopes, expires = row
    return Grant(tenant, name, user, tuple(scopes), expires.timestamp() if expires else None)


async def install(connection: Connection, tenant: str, key: str) -> None:
    """The operator's key is this one; an earlier one is revoked."""
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


class Told(Telling):
    """What routers and services are told: tenants, keys, policies."""

    def __init__(self, database: Database, nats: Bus) -> None:
        super().__init__(database, nats, directory.BUCKET, POLICIES)

    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """As the tables have it now."""
        *kind, name = bus.parts(key)
        if bucket == POLICIES:
            cursor = await connection.execute("SELECT policy FROM tenants WHERE id = %s", (name,))
            row = await cursor.fetchone()
            return msgspec.json.encode(row[0]) if row and row[0] is not None else None
        if kind == [directory.TENANT]:
            cursor = await connection.execute(
                "SELECT id, models, requests_per_minute, tokens_per_minute FROM tenants WHERE id = %s", (name,)
            )
            row = await cursor.fetchone()
            return msgspec.json.encode(TenantEntry(row[0], tuple(row[1]), row[2], row[3])) if row else None
        cursor = await connection.execute(
            f"SELECT tenant, id, coalesce(\"user\", ''), scopes, expires FROM keys WHERE digest = %s AND {VALID}",
            (name,),
        )
        row = await cursor.fetchone()
        return msgspec.json.encode(_grant(row)) if row else None

    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All of a bucket."""
        if bucket == POLICIES:
            cursor = await connection.execute("SELECT id FROM tenants WHERE policy IS NOT NULL")
            return {bus.key(row[0]) for row in await cursor.fetchall()}
        cursor = await connection.execute("SELECT id FROM tenants")
        found = {bus.key(directory.TENANT, row[0]) for row in await cursor.fetchall()}
        cursor = await connection.execute(f"SELECT digest FROM keys WHERE {VALID}")
        return found | {bus.key(directory.KEY, row[0]) for row in await cursor.fetchall()}
