"""A tenant that was deleted: everything that Retriever holds of it goes."""

from __future__ import annotations

from kit.database import Connection, Database
from kit.objects import Objects

from retriever.engines import Engine


class Erasure:
    """Of one tenant at a time. Done twice, it does nothing; cut off, it is done once more from its event."""

    def __init__(self, database: Database, objects: Objects, engine: Engine) -> None:
        self._database, self._objects, self._engine = database, objects, engine

    async def erase(self, connection: Connection, tenant: str) -> None:
        """Passages, contents, rows, in this order: what a row leads to is gone before the row. Raises ApiError(503)."""
        # Whoever reads a file holds its row while it writes passages, and finds none afterwards.
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
