"""Deletes expired files, and empties expired stores, which stay with the status expired."""

from __future__ import annotations

import asyncio

from kit import logs
from kit.database import Database

from retriever.api import Api

log = logs.get("retriever.expiry")
_EVERY_S = 60.0
_ACTOR = "retriever:expiry"
_BATCH = 100


class Expiry:
    """Background task of each replica. Replicas may delete the same object concurrently."""

    def __init__(self, database: Database, api: Api) -> None:
        self._database, self._api = database, api

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                more = await self.once()
            except Exception as error:
                more = False
                log.warning("cannot delete expired objects now", reason=repr(error))
            if not more:
                await asyncio.sleep(_EVERY_S)

    async def once(self) -> bool:
        """Delete one batch. Returns whether there may be more."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT tenant, id FROM files WHERE expires <= now() ORDER BY expires LIMIT %s", (_BATCH,)
            )
            files = await cursor.fetchall()
            cursor = await connection.execute(
                "SELECT s.tenant, s.id FROM stores s WHERE s.expires_days IS NOT NULL AND "
                "s.active + make_interval(days => s.expires_days) <= now() AND "
                "EXISTS (SELECT 1 FROM store_files f WHERE f.store = s.id) LIMIT %s",
                (_BATCH,),
            )
            stores = await cursor.fetchall()
        for tenant, name in files:
            await self._api.delete_file(tenant, name, _ACTOR)
        for tenant, name in stores:
            await self._api.empty(tenant, name, _ACTOR, gone=False)
        return len(files) == _BATCH or len(stores) == _BATCH
