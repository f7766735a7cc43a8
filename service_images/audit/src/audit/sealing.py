"""Encrypts the content of events with the tenant's data key. After the key is destroyed, the content is unreadable, and
the log stays valid.

A leaf contains a salted hash of the content. The salt is encrypted with the content: readers of an entry can verify
the hash, and the content of a shredded entry cannot be found by guessing.

The database holds the data keys, encrypted: with the installation's own secret (`sealed`), or with a key in the secret
store that belongs to this tenant alone (`wrapped`, by the key `name`). Both, while the keys move to the store.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kit import logs
from kit.database import Connection, Database
from kit.errors import unavailable
from kit.secret_store import StoreRefused, StoreUnavailable
from kit.tenant_deletion import forget

from audit.transit import KeyGone, Transit

log = logs.get("audit.sealing")
_NONCE_BYTES = 12
_NAME_BYTES = 16
SALT_BYTES = 32


@dataclass(frozen=True)
class Row:
    """A tenant's key in the database, which is not destroyed."""

    tenant: str
    sealed: bytes | None
    name: str | None
    wrapped: str | None


class Keys:
    """Data keys of tenants.

    Each transaction reads from the database which keys there are, so that a destroyed key is unusable in all replicas
    at once. Keys that the store has decrypted stay in memory, so that the store is asked once for each.
    """

    def __init__(self, secret: str = "", transit: Transit | None = None) -> None:
        """`secret`: the installation's own, if there is one. `transit`: the store, if there is one."""
        self._own = AESGCM(hashlib.sha256(secret.encode()).digest()) if secret else None
        self._transit = transit
        self._held = dict[str, bytes]()
        """Data keys by the name of the store's key that encrypts them."""
        self._gone = set[str]()
        """Names of keys that the store no longer has."""
        self.in_store = transit is not None and not secret
        """Whether new tenants' keys are made in the store. Until the store's key signs, too, the own secret is used."""
        self.rotation = 0
        """Number of rotations that were asked for."""

    async def get(self, connection: Connection, tenants: set[str], *, make: bool = False) -> dict[str, AESGCM]:
        """Keys by tenant. Tenants with a destroyed key are left out. Raises ApiError(503) without the store.

        `make`: the caller is about to write. Missing keys are made, except in the store, which `prepare` does.
        """
        if make and not self.in_store:
            await self._make_own(connection, tenants)
        elif make and (missing := await _missing(connection, tenants)):
            log.warning("keys are not prepared", tenants=missing)
            raise unavailable("A key that this needs")
        found = dict[str, AESGCM]()
        for row in await _rows(connection, tenants):
            try:
                key = await self.open(row)
            except KeyGone:
                continue
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("cannot use a tenant's key now", tenant=row.tenant, reason=str(error))
                raise unavailable("The secret store, which holds a key that this needs,") from None
            found[row.tenant] = AESGCM(key)
        return found

    async def open(self, row: Row) -> bytes:
        """A data key. Raises KeyGone, StoreUnavailable or StoreRefused."""
        if row.name is not None and (held := self._held.get(row.name)) is not None:
            return held
        if row.sealed is not None and self._own is not None:
            return _open(self._own, row.sealed, row.tenant)
        if self._transit is None:
            raise StoreUnavailable("the key is encrypted by the secret store, but this environment has none")
        if row.sealed is not None and row.wrapped is None:
            raise StoreUnavailable("the key is encrypted with the installation's own secret, which is missing")
        if row.name is None or row.wrapped is None:
            raise StoreUnavailable("the key is being made")
        if row.name in self._gone:
            raise KeyGone(row.name)
        try:
            key = await self._transit.unwrap(row.name, row.wrapped, row.tenant)
        except KeyGone:
            # The key was destroyed, and the database restored to a moment before that.
            self._gone.add(row.name)
            raise
        self._held[row.name] = key
        return key

    async def prepare(self, database: Database, tenants: Iterable[str]) -> dict[str, str]:
        """Make the missing keys of tenants in the store, and open the others.

        Returns the tenants whose keys cannot be had now, with the reason.
        """
        if self._transit is None:
            return {}
        wanted = set(tenants)
        async with database.transaction() as connection:
            self.in_store = self.in_store or await moved(connection)
            if not self.in_store:
                return {}
            if missing := await _missing(connection, wanted):
                async with connection.cursor() as inserting:
                    await inserting.executemany(
                        "INSERT INTO keys (tenant, name, rotation) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                        [(tenant, new_name(), self.rotation) for tenant in missing],
                    )
            rows = await _rows(connection, wanted)
        waiting = dict[str, str]()
        for row in rows:
            try:
                if row.sealed is None and row.wrapped is None:
                    await self.wrap(database, row, AESGCM.generate_key(256))
                else:
                    await self.open(row)
            except KeyGone:
                pass
            except (StoreUnavailable, StoreRefused) as error:
                waiting[row.tenant] = str(error)
        return waiting

    async def wrap(self, database: Database, row: Row, key: bytes) -> None:
        """Encrypt a data key with a key of its own in the store, and keep the result. Can be repeated.

        Raises StoreUnavailable or StoreRefused.
        """
        assert self._transit is not None and row.name is not None, "callers have a store, and name the key first"
        await self._transit.make(row.name)
        wrapped = await self._transit.wrap(row.name, key, row.tenant)
        async with database.transaction() as connection:
            cursor = await connection.execute(
                "UPDATE keys SET wrapped = %s WHERE tenant = %s AND name = %s AND wrapped IS NULL AND shredded IS NULL",
                (wrapped, row.tenant, row.name),
            )
        if cursor.rowcount:  # otherwise another replica was first, and a new key is its
            self._held[row.name] = key

    async def rewrap(self, database: Database, row: Row, rotation: int) -> None:
        """Encrypt a data key with a new version of the store's key. Can be repeated.

        Raises KeyGone, StoreUnavailable or StoreRefused.
        """
        assert self._transit is not None and row.name is not None, "only keys in the store are rotated"
        key = await self.open(row)
        await self._transit.rotate(row.name)
        wrapped = await self._transit.wrap(row.name, key, row.tenant)
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE keys SET wrapped = %s, rotation = %s WHERE tenant = %s AND name = %s AND shredded IS NULL",
                (wrapped, rotation, row.tenant, row.name),
            )

    async def shred(self, connection: Connection, tenant: str) -> bool:
        """Destroy a tenant's key in the database, and delete the contents and subjects of its entries.

        Returns False if the tenant has no key. The key in the store is destroyed after the transaction.
        """
        cursor = await connection.execute(
            "UPDATE keys SET sealed = NULL, wrapped = NULL, shredded = now() WHERE tenant = %s AND shredded IS NULL",
            (tenant,),
        )
        if not cursor.rowcount:
            return False
        await connection.execute("UPDATE entries SET subject = NULL, content = NULL WHERE tenant = %s", (tenant,))
        await forget(connection, tenant)  # dead letters are not encrypted
        return True

    async def destroy(self, database: Database, tenant: str = "") -> bool:
        """Destroy keys of shredded tenants in the store, by default of all. Returns False if the store does not answer.

        The caller has committed the shredding.
        """
        async with database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT tenant, name FROM keys WHERE shredded IS NOT NULL AND name IS NOT NULL AND destroyed IS NULL "
                "AND (tenant = %(tenant)s OR %(tenant)s = '')",
                {"tenant": tenant},
            )
            rows = await cursor.fetchall()
        for found, name in rows:
            try:
                await self.destroy_named(name)
            except (StoreUnavailable, StoreRefused) as error:
                log.warning("a destroyed key stays in the secret store", tenant=found, reason=str(error))
                return False
            async with database.transaction() as connection:
                await connection.execute("UPDATE keys SET destroyed = now() WHERE tenant = %s", (found,))
            log.info("a key is destroyed in the secret store", tenant=found)
        return True

    async def destroy_named(self, name: str) -> None:
        """Destroy a key in the store, and forget it. Raises StoreUnavailable or StoreRefused."""
        self._held.pop(name, None)
        if self._transit is None:
            raise StoreUnavailable("this environment has none")
        await self._transit.destroy(name)

    def found(self, names: set[str]) -> None:
        """Note which keys the store has."""
        self._gone -= names

    @property
    def opens_own(self) -> bool:
        """Whether this process has the installation's own secret."""
        return self._own is not None

    def holds(self, name: str) -> bool:
        """Whether a data key is in memory."""
        return name in self._held

    @property
    def count(self) -> int:
        """Number of data keys in memory."""
        return len(self._held)

    def forget(self, names: Iterable[str]) -> None:
        """Drop data keys from memory."""
        for name in names:
            self._held.pop(name, None)

    @staticmethod
    async def refuse(connection: Connection, tenant: str) -> None:
        """Ensure that a tenant without a key never gets one."""
        await connection.execute(
            "INSERT INTO keys (tenant, sealed, shredded) VALUES (%s, NULL, now()) ON CONFLICT DO NOTHING", (tenant,)
        )

    async def _make_own(self, connection: Connection, tenants: set[str]) -> None:
        if self._own is None:
            raise unavailable("The secret store, which this environment does not have but its keys need,")
        missing = await _missing(connection, tenants)
        async with connection.cursor() as inserting:
            await inserting.executemany(
                "INSERT INTO keys (tenant, sealed) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                [(t, _seal(self._own, AESGCM.generate_key(256), t)) for t in missing],
            )


async def moved(connection: Connection) -> bool:
    """Whether the keys in the store are in use, and the installation's own secret only opens what it has sealed."""
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM signers WHERE number > 0 AND since <= now())")
    row = await cursor.fetchone()
    return bool(row and row[0])


async def _missing(connection: Connection, tenants: set[str]) -> list[str]:
    """Those of the tenants that have no key, and never had one, sorted."""
    cursor = await connection.execute("SELECT tenant FROM keys WHERE tenant = ANY(%s)", (sorted(tenants),))
    return sorted(tenants - {row[0] for row in await cursor.fetchall()})


async def _rows(connection: Connection, tenants: set[str]) -> list[Row]:
    cursor = await connection.execute(
        "SELECT tenant, sealed, name, wrapped FROM keys WHERE tenant = ANY(%s) AND shredded IS NULL", (sorted(tenants),)
    )
    return [Row(*row) for row in await cursor.fetchall()]


def new_name() -> str:
    """Name of a tenant's key in the store, whose log shows it. It does not tell the tenant."""
    return secrets.token_hex(_NAME_BYTES)


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
