"""Brings keys to where they belong: in the background, in every replica, and again and again.

With a secret store, tenants' keys and the signing key move there from the installation's own secret, one tenant at a
time. Until the move is complete, both can open a key, because replicas of an earlier release may run beside this one.
Every step can be repeated, so it does not matter where a replica was killed, or how many replicas do the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from kit import logs, telemetry
from kit.bus import is_cancelled
from kit.database import Database
from kit.secret_store import StoreRefused, StoreUnavailable
from prometheus_client import Gauge

from audit.ledger import Ledger
from audit.sealing import Keys, Row, new_name
from audit.signing import Signing
from audit.transit import KeyGone, Transit

log = logs.get("audit.moving")
_SIGN_S, _EVERY_S, _SWEEP_S = 1.0, 10.0, 600.0
"""Seconds between two looks for an unsigned checkpoint, for a rotation, and for keys that came back with a restore."""
_TOGETHER = 8
"""Keys that the store is asked for at a time."""
LEFT = Gauge(
    "audit_keys_in_own_secret",
    "Tenants' keys that need the installation's own secret of Audit. At 0 that secret is no longer needed.",
    registry=telemetry.REGISTRY,
)
UNSIGNED = Gauge(
    "audit_checkpoint_waiting_seconds",
    "For how long the newest checkpoint has waited for the secret store; 0: it is signed.",
    registry=telemetry.REGISTRY,
)
OPEN = Gauge(
    "audit_keys_open",
    "Tenants' keys in memory, with which entries are read and written while the secret store is away.",
    registry=telemetry.REGISTRY,
)
_LIVE = "SELECT tenant, sealed, name, wrapped FROM keys WHERE shredded IS NULL AND "


class Moving:
    """Background task of each replica."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        keys: Keys,
        signing: Signing,
        transit: Transit | None,
        overlap_s: float,
    ) -> None:
        """`overlap_s`: for how long replicas of an earlier release may run beside this one."""
        self._database, self._ledger, self._keys, self._signing = database, ledger, keys, signing
        self._transit, self._overlap_s = transit, overlap_s
        self._next = self._sweep_at = 0.0
        self._waits_since: float | None = None
        self._said = self._problem = ""
        self._rotated = 0

    async def run(self) -> None:
        """Run until cancelled."""
        OPEN.set(0)
        while not is_cancelled():
            try:
                await self._sign()
                if time.monotonic() >= self._next:
                    await self.round()
                    self._next = time.monotonic() + _EVERY_S
                    self._well()
            except (StoreUnavailable, StoreRefused) as error:
                self._trouble(f"the secret store: {error}")
            except Exception as error:  # such as a database that is not there yet
                self._trouble(repr(error))
            if self._transit is None and not self._problem:
                return  # nothing changes without a store
            await asyncio.sleep(_SIGN_S)

    async def round(self) -> None:
        """One comparison. Raises StoreUnavailable, StoreRefused or ApiError; what was done until then stays."""
        await self._signing.settle(self._database, self._overlap_s)
        if self._transit is None:
            return
        self._keys.rotation = await self._transit.rotations()
        await self._keys.prepare(self._database, {""})  # the platform's own entries never wait
        await self._move(retire=self._keys.in_store)
        await self._keys.destroy(self._database)
        if time.monotonic() >= self._sweep_at:
            await self._sweep(self._transit)
            self._sweep_at = time.monotonic() + _SWEEP_S
        await self._rotate(self._transit)
        await self._open()

    async def _move(self, *, retire: bool) -> None:
        """Encrypt keys with the store that are encrypted with the own secret only. `retire`: drop the latter."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT tenant FROM keys WHERE sealed IS NOT NULL AND name IS NULL AND shredded IS NULL"
            )
            async with connection.cursor() as updating:
                await updating.executemany(
                    "UPDATE keys SET name = %s, rotation = %s WHERE tenant = %s AND name IS NULL",
                    [(new_name(), self._keys.rotation, row[0]) for row in await cursor.fetchall()],
                )
        moving = await self._rows("sealed IS NOT NULL AND wrapped IS NULL AND name IS NOT NULL")
        for row in moving if self._keys.opens_own else ():
            await self._keys.wrap(self._database, row, await self._keys.open(row))
            log.info("a tenant's key is in the secret store", tenant=row.tenant)
        async with self._database.transaction() as connection:
            # An earlier release destroys only what it knows.
            await connection.execute("UPDATE keys SET wrapped = NULL WHERE shredded IS NOT NULL AND wrapped <> ''")
            if retire:
                await connection.execute("UPDATE keys SET sealed = NULL WHERE sealed IS NOT NULL AND wrapped <> ''")
            cursor = await connection.execute("SELECT count(*) FROM keys WHERE sealed IS NOT NULL")
            found = await cursor.fetchone()
        self._tell(int(found[0]) if found else 0, retire=retire)

    def _tell(self, left: int, *, retire: bool) -> None:
        """Say once how far the move is. `left`: keys that need the installation's own secret."""
        LEFT.set(left)
        said = "missing" if left else ""
        if self._keys.opens_own:
            said = "moved" if retire and not left else "moving"
        if said == self._said:
            return
        self._said = said
        if said == "moved":
            log.info("all keys are in the secret store: the Secret login-audit-keys is no longer needed")
        elif said == "moving":
            log.info("keys still need the Secret login-audit-keys", tenants=left)
        elif said == "missing":
            log.error(
                "keys need the Secret login-audit-keys, which is missing: set services.audit.secret", tenants=left
            )

    async def _sweep(self, transit: Transit) -> None:
        """Destroy keys that the store has again, and count those that it has lost: it was restored from a snapshot."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT name, shredded IS NOT NULL FROM keys WHERE name IS NOT NULL "
                "AND (shredded IS NOT NULL OR wrapped IS NOT NULL)"
            )
            known = {row[0]: bool(row[1]) for row in await cursor.fetchall()}
        there = await transit.names()
        again = [name for name, shredded in sorted(known.items()) if shredded and name in there]
        for name in again:
            await self._keys.destroy_named(name)
        if again:
            log.warning("the secret store had destroyed keys again, such as after a restore", destroyed=len(again))
        lost = [name for name, shredded in known.items() if not shredded and name not in there]
        if lost := [name for name in lost if await self._lives(name)]:
            log.error("the secret store has no keys of tenants whose entries are readable with them", keys=len(lost))
        self._keys.found(there)

    async def _lives(self, name: str) -> bool:
        """Whether a key is not shredded by now."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT shredded IS NULL FROM keys WHERE name = %s", (name,))
            row = await cursor.fetchone()
        return bool(row and row[0])

    async def _rotate(self, transit: Transit) -> None:
        if self._keys.rotation <= self._rotated:
            return
        for row in await self._rows("wrapped IS NOT NULL AND rotation < %s", self._keys.rotation):
            try:
                await self._keys.rewrap(self._database, row, self._keys.rotation)
            except KeyGone as error:
                log.error("the store has lost a key that is to be rotated", tenant=row.tenant, reason=str(error))
        await transit.count(self._keys.rotation)
        self._rotated = self._keys.rotation
        log.info("the tenants' keys are rotated", rotations=self._rotated)

    async def _open(self) -> None:
        """Get all keys into memory, so that entries can be read and written while the store is away."""
        wanted = [row for row in await self._rows("wrapped IS NOT NULL") if row.name and not self._keys.holds(row.name)]
        for first in range(0, len(wanted), _TOGETHER):
            await asyncio.gather(*(self._opened(row) for row in wanted[first : first + _TOGETHER]))
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT name FROM keys WHERE shredded IS NOT NULL AND name IS NOT NULL")
            self._keys.forget(row[0] for row in await cursor.fetchall())
        OPEN.set(self._keys.count)

    async def _opened(self, row: Row) -> None:
        try:
            await self._keys.open(row)
        except KeyGone:
            log.error("a tenant's key is no longer in the secret store", tenant=row.tenant)

    async def _rows(self, condition: str, *values: object) -> Iterable[Row]:
        async with self._database.transaction() as connection:
            cursor = await connection.execute(f"{_LIVE}{condition} ORDER BY tenant".encode(), values)
            return [Row(*row) for row in await cursor.fetchall()]

    async def _sign(self) -> None:
        signed = await self._ledger.sign_newest()
        if signed:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = time.monotonic()
        UNSIGNED.set(0 if self._waits_since is None else time.monotonic() - self._waits_since)

    def _trouble(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            log.warning("keys cannot be compared with the secret store now", reason=problem)

    def _well(self) -> None:
        if self._problem:
            self._problem = ""
            log.info("keys are compared with the secret store again")
