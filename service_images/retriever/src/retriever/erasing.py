"""Erases everything that Retriever stores of a deleted tenant."""

from __future__ import annotations

from kit.database import Connection, Database
from kit.objects import Objects

from retriever.engines import Engine


class Erasure:
    """Erases one tenant at a time. A repeat does nothing; after a crash, its event starts the erasure again."""

    def __init__(self, database: Database, objects: Objects, engine: Engine) -> None:
        self._database, self._objects, self._engine = database, objects, engine

    async def erase(self, connection: Connection, tenant: str) -> None:
        """Delete passages, contents and rows in this order: no row goes before its data. Raises ApiError(503)."""
        # Ingestion locks a file's row while it writes passages, so it fails after this.
        cursor = await connection.execute("SELECT id FROM stores WHERE tenant = %s FOR UPDATE", (tenant,))
        stores = [row[0] for row in await cursor.fetchall()]
        await connection.execute("SELECT 1 FROM store_files WHERE tenant = %s FOR UPDATE", (tenant,))
        with self._database.joined(connection):
            for store in stores:
                await self._engine.delete(tenant, store)
        cursor = await connection.execute("SELECT id FROM files WHERE tenant = %s FOR UPDATE", (tenant,))
        for (file,) in await cursor.fetchall():
            await self._objects.delete(f"{tenant}/{file}")
        for table in ("stores", "files", "turns"):
            await connection.execute(f"DELETE FROM {table} WHERE tenant = %s", (tenant,))
