"""What an event tells is sealed with its tenant's key: once that is destroyed nobody can read it, and the log holds."""

from __future__ import annotations

import hashlib
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kit.database import Connection

_NONCE_BYTES = 12


class Shredded(Exception):
    """The tenant's key was destroyed."""


class Keys:
    """Tenants' keys, each sealed with the service's own key in the database."""

    def __init__(self, secret: str) -> None:
        self._own = AESGCM(hashlib.sha256(secret.encode()).digest())
        self._known: dict[str, AESGCM] = {}

    async def get(self, connection: Connection, tenant: str, *, make: bool = True) -> AESGCM:
        """A tenant's key; a new one where there is none. Raises Shredded."""
        if tenant in self._known:
            return self._known[tenant]
        if make:
            fresh = AESGCM.generate_key(256)
            await connection.execute(
                "INSERT INTO keys (tenant, sealed) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (tenant, _seal(self._own, fresh, tenant)),
            )
        cursor = await connection.execute("SELECT sealed FROM keys WHERE tenant = %s", (tenant,))
        row = await cursor.fetchone()
        if row is None or row[0] is None:
            raise Shredded(tenant)
        key = self._known[tenant] = AESGCM(_open(self._own, row[0], tenant))
        return key

    def forget(self, tenants: list[str] | None = None) -> None:
        """Read keys anew the next time; all of them where none is named."""
        for tenant in tenants if tenants is not None else list(self._known):
            self._known.pop(tenant, None)

    async def shred(self, connection: Connection, tenant: str) -> bool:
        """Destroy a tenant's key for ever, and the names of what its events were about; False: there is none."""
        cursor = await connection.execute(
            "UPDATE keys SET sealed = NULL, shredded = now() WHERE tenant = %s AND sealed IS NOT NULL", (tenant,)
        )
        self.forget([tenant])
        if not cursor.rowcount:
            return False
        await connection.execute("UPDATE entries SET subject = NULL WHERE tenant = %s", (tenant,))
        return True


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
