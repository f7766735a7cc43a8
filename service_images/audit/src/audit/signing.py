"""Signs notes of the log: with the key from the installation's own secret, or with a version of a key in the store.

The database lists all keys in the order of their use. All replicas read from there which one is in use, so a key that
is replaced signs nothing once its successor is in use. An earlier key counts for logs up to the size that it has signed
last, so whoever learns it later cannot sign a longer log.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from kit import logs
from kit.database import Connection, Database
from kit.errors import unavailable
from kit.ledger import note
from kit.secret_store import StoreRefused, StoreUnavailable

from audit.transit import Transit

log = logs.get("audit.signing")
OWN = 0
"""Number of the key from the installation's own secret."""


@dataclass(frozen=True)
class Current:
    """The key in use."""

    number: int
    key: str
    """Line of `note.verifier`."""
    version: int


class Signing:
    """The keys of one log."""

    def __init__(self, origin: str, own: Ed25519PrivateKey | None, transit: Transit | None = None) -> None:
        """`own`: the key from the installation's own secret, if there is one. `transit`: the store, if there is one."""
        self.origin, self.own, self._transit = origin, own, transit

    async def current(self, connection: Connection) -> Current | None:
        """The key in use; None: the store has not shown its key yet."""
        if self._transit is not None or self.own is None:
            cursor = await connection.execute(
                "SELECT number, key, version FROM signers WHERE since <= now() ORDER BY number DESC LIMIT 1"
            )
            if (row := await cursor.fetchone()) is not None and row[0] != OWN:
                return Current(*row)
        if self.own is None:
            return None
        return Current(OWN, note.verifier(self.origin, self.own.public_key()), 0)

    def sign_own(self, text: str) -> str:
        """A note, signed with the key from the installation's own secret."""
        assert self.own is not None, "this key is in use only where the secret is"
        return note.sign_text(self.origin, text, self.own)

    async def sign(self, text: str, current: Current) -> str:
        """A note, signed with the key in use. Raises StoreUnavailable or StoreRefused."""
        if current.number == OWN:
            return self.sign_own(text)
        if self._transit is None:
            raise StoreUnavailable("the log is signed with a key in the secret store, but this environment has none")
        public = note.public(current.key)
        signature = await self._transit.sign(text.encode(), current.version)
        # The store may have been restored to a moment at which the version was another key.
        try:
            Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode())
        except InvalidSignature:
            raise StoreUnavailable(f"version {current.version} of its signing key is another key now") from None
        return note.signed_text(self.origin, text, public, signature)

    async def statement(self, database: Database, text: str) -> str:
        """A text, signed with the key in use. Raises ApiError(503) without the store."""
        async with database.transaction() as connection:
            current = await self.current(connection)
        try:
            if current is None:
                raise StoreUnavailable("it has not shown the signing key yet")
            return await self.sign(text, current)
        except (StoreUnavailable, StoreRefused) as error:
            log.warning("a statement cannot be signed now", reason=str(error))
            raise unavailable("The secret store, which signs exports,") from None

    async def check(self, database: Database) -> None:
        """Raise ApiError(503) if the store is needed now, and does not answer."""
        async with database.transaction() as connection:
            current = await self.current(connection)
        if current is not None and current.number == OWN:
            return
        try:
            if current is None or self._transit is None:
                raise StoreUnavailable("it has not shown the signing key yet")
            await self._transit.signing_keys()
        except (StoreUnavailable, StoreRefused) as error:
            log.warning("nothing can be signed now", reason=str(error))
            raise unavailable("The secret store, which signs exports,") from None

    async def published(self, connection: Connection) -> str:
        """All public keys, the one in use first. Each earlier one is followed by the size up to which it counts."""
        current = await self.current(connection)
        cursor = await connection.execute(
            "SELECT number, key, greatest(0, retired, (SELECT max(size) FROM checkpoints WHERE signer = number)) "
            "FROM signers ORDER BY number DESC"
        )
        found = {current.key: current.key} if current is not None else {}
        for number, key, last in await cursor.fetchall():
            if key not in found:
                later = current is None or number > current.number
                found[key] = key if later else f"{key} {last}"
        return "".join(f"{line}\n" for line in found.values())

    async def _newest(self, transit: Transit) -> tuple[int, str]:
        """Version and key that the store has made last."""
        keys = await transit.signing_keys()
        version = max(keys)
        return version, note.verifier(self.origin, Ed25519PublicKey.from_public_bytes(keys[version]))

    async def settle(self, database: Database, overlap_s: float) -> None:
        """List the keys that this process knows. Raises StoreUnavailable or StoreRefused.

        A key of the store that is not listed yet is used from now on. In a log that its own secret has signed, the
        first one is used after `overlap_s`: until then, replicas of an earlier release may run, which know only that.
        """
        if self.own is not None:
            async with database.transaction() as connection:
                own = note.verifier(self.origin, self.own.public_key())
                await connection.execute(
                    "INSERT INTO signers VALUES (%s, %s, 0, now()) ON CONFLICT DO NOTHING", (OWN, own)
                )
        if self._transit is None:
            return
        _, key = await self._newest(self._transit)
        async with database.transaction() as connection:
            if (await _listed(connection))[1] == key:
                return
            await connection.execute("LOCK TABLE signers IN SHARE ROW EXCLUSIVE MODE")
            # Another replica may have listed a newer one since.
            version, key = await self._newest(self._transit)
            number, listed = await _listed(connection)
            if listed == key:
                return
            await connection.execute(
                "UPDATE signers SET retired = (SELECT max(size) FROM checkpoints) WHERE number = %s AND number > %s",
                (number, OWN),
            )
            wait_s = overlap_s if number == OWN and self.own is not None and await _used(connection) else 0.0
            await connection.execute(
                "INSERT INTO signers VALUES (%s, %s, %s, now() + make_interval(secs => %s))",
                (number + 1, key, version, wait_s),
            )
        log.info("the secret store's key signs the log", version=version, key=key, after_s=wait_s)


async def _listed(connection: Connection) -> tuple[int, str]:
    """Number and key that were listed last."""
    cursor = await connection.execute("SELECT number, key FROM signers ORDER BY number DESC LIMIT 1")
    return await cursor.fetchone() or (OWN, "")


async def _used(connection: Connection) -> bool:
    """Whether the installation's own secret has encrypted or signed something."""
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM checkpoints) OR EXISTS (SELECT FROM keys)")
    row = await cursor.fetchone()
    return bool(row and row[0])
