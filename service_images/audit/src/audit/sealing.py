"""Encrypts the content of events with the tenant's key. After the key is destroyed, the content is unreadable, and
the log stays valid.

A leaf contains a salted hash of the content. The salt is encrypted with the content: readers of an entry can verify
the hash, and the content of a shredded entry cannot be found by guessing.
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


class Keys:
    """Keys of tenants, stored in the database, encrypted with the service's own key.

    Each transaction reads them from the database, so that a destroyed key is unusable in all replicas at once.
    """

    def __init__(self, secret: str) -> None:
        self._own = AESGCM(hashlib.sha256(secret.encode()).digest())

    async def get(self, connection: Connection, tenants: set[str], *, make: bool = False) -> dict[str, AESGCM]:
        """Keys by tenant. Tenants with a destroyed key are left out. `make`: create missing keys."""
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
        """Destroy a tenant's key, and delete the contents and subjects of its entries.

        Returns False if the tenant has no key.
        """
        cursor = await connection.execute(
            "UPDATE keys SET sealed = NULL, shredded = now() WHERE tenant = %s AND sealed IS NOT NULL", (tenant,)
        )
        if not cursor.rowcount:
            return False
        await connection.execute("UPDATE entries SET subject = NULL, content = NULL WHERE tenant = %s", (tenant,))
        await forget(connection, tenant)  # dead letters are not encrypted
        return True

    @staticmethod
    async def refuse(connection: Connection, tenant: str) -> None:
        """Ensure that a tenant without a key never gets one."""
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
    """Encrypt content with a tenant's key. `about` is authenticated, so that content cannot move to another entry."""
    return _seal(key, content, about)


def unseal(key: AESGCM, sealed: bytes, about: str) -> bytes:
    """Decrypt content. Raises ValueError if it was changed."""
    try:
        return _open(key, sealed, about)
    except InvalidTag:
        raise ValueError("the encrypted content was changed") from None
