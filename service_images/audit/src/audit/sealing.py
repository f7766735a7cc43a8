"""The content of an event is sealed with its tenant's key. Once that is destroyed nobody can read it; the log holds.

A leaf of the log has a salted hash of the content instead of the content itself. The salt is sealed with the content:
whoever may read an entry can check it, and nobody can find the content of a shredded one by trying.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kit.database import Connection
from kit.tenant_deletion import forget

_NONCE_BYTES = 12
SALT_BYTES = 32
_CONTENT = b"cogniforge audit content\n"
"""Begins what is hashed, so that the hash is of nothing else."""


def commitment(salt: bytes, content: bytes) -> str:
    """The hash by which a leaf commits to its entry's content, in hexadecimal."""
    return hashlib.sha256(_CONTENT + salt + content).hexdigest()


class Keys:
    """Tenants' keys, each sealed with the service's own key in the database.

    They are read from there in each transaction, so that a key that was destroyed is gone in all replicas at once.
    """

    def __init__(self, secret: str) -> None:
        self._own = AESGCM(hashlib.sha256(secret.encode()).digest())

    async def get(self, connection: Connection, tenants: set[str], *, make: bool = False) -> dict[str, AESGCM]:
        """The keys of tenants, without those whose key was destroyed; with `make`, new ones where there are none."""
        if make:
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    "INSERT INTO keys (tenant, sealed) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                    [
                        (t, _seal(self._own, AESGCM.generate_key(256), t))
                        for t in sorted(await _missing(cursor, tenants))
                    ],
                )
        found = await connection.execute(
            "SELECT tenant, sealed FROM keys WHERE tenant = ANY(%s) AND sealed IS NOT NULL", (sorted(tenants),)
        )
        return {tenant: AESGCM(_open(self._own, sealed, tenant)) for tenant, sealed in await found.fetchall()}

    async def shred(self, connection: Connection, tenant: str) -> bool:
        """Destroy a tenant's key for ever, with its entries' contents and the names of what they are about.

        False: it has no key.
        """
        cursor = await connection.execute(
            "UPDATE keys SET sealed = NULL, shredded = now() WHERE tenant = %s AND sealed IS NOT NULL", (tenant,)
        )
        if not cursor.rowcount:
            return False
        await connection.execute("UPDATE entries SET subject = NULL, content = NULL WHERE tenant = %s", (tenant,))
        await forget(connection, tenant)  # what could not be processed is not sealed
        return True

    @staticmethod
    async def refuse(connection: Connection, tenant: str) -> None:
        """A tenant without a key is never given one."""
        await connection.execute(
            "INSERT INTO keys (tenant, sealed, shredded) VALUES (%s, NULL, now()) ON CONFLICT DO NOTHING", (tenant,)
        )


async def _missing(cursor: psycopg.AsyncCursor[Any], tenants: set[str]) -> set[str]:
    await cursor.execute("SELECT tenant FROM keys WHERE tenant = ANY(%s)", (sorted(tenants),))
    return tenants - {row[0] for row in await cursor.fetchall()}


def _seal(key: AESGCM, content: bytes, about: str) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + key.encrypt(nonce, content, about.encode())


def _open(key: AESGCM, sealed: bytes, about: str) -> bytes:
    return key.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())


def seal(key: AESGCM, content: bytes, about: str) -> bytes:
    """Content under a tenant's key; `about` is bound to it, so that it cannot be moved to another entry."""
    return _seal(key, content, about)


def unseal(key: AESGCM, sealed: bytes, about: str) -> bytes:
    """The content. Raises ValueError where it was changed."""
    try:
        return _open(key, sealed, about)
    except InvalidTag:
        raise ValueError("the sealed content was changed") from None
