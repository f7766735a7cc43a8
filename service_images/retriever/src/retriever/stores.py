"""Operations on stores."""

from __future__ import annotations

import uuid
from typing import Any

from kit.rest import Call, Operation
from psycopg.types.json import Jsonb

from retriever import tables
from retriever.handling import SCOPE, STORE, STORES, Shown, page
from retriever.models import NewStore, NewStoreFile, Page, StoreChange
from retriever.store_files import StoreFiles


class Stores(StoreFiles):
    """Handlers."""

    def store_operations(self) -> list[Operation]:
        """Operations on stores."""
        store = STORES + "/{store}"
        one: Shown = {"parameters": (STORE,), "scope": SCOPE, "failures": (404,)}
        return [
            Operation("POST", STORES, "Create a store.", self.make, body=NewStore, scope=SCOPE, failures=(404, 429),
                      makes=True),
            Operation("GET", STORES, "List the tenant's stores.", self.stores, query=Page, scope=SCOPE),
            Operation("GET", store, "Get a store.", self.store, **one),
            Operation("POST", store, "Change a store.", self.change, body=StoreChange, **one),
            Operation("DELETE", store, "Delete a store with its passages.", self.drop, **one),
        ]  # fmt: skip

    async def make(self, call: Call[Any, NewStore]) -> Shown:
        """The named files are read soon."""
        made, tenant, wanted = f"vs_{uuid.uuid4().hex}", call.caller.tenant, call.body
        entries = [
            NewStoreFile(file_id=name, chunking_strategy=wanted.chunking_strategy)
            for name in dict.fromkeys(wanted.file_ids)
        ]
        files = await self.addable(call, entries)
        days = wanted.expires_after.days if wanted.expires_after else None
        async with self.database.transaction() as connection:
            await self.quotas.use(connection, tenant, {"stores": 1})
            await connection.execute(
                "INSERT INTO stores (id, tenant, name, description, metadata, owner, expires_days) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    made,
                    tenant,
                    wanted.name or "",
                    wanted.description or "",
                    Jsonb(wanted.metadata or {}),
                    call.caller.actor,
                    days,
                ),
            )
            await self.put(connection, call, made, files)
            found = tables.shown_store(await tables.store(connection, tenant, made))
        self.ingest.wake()
        return found

    async def stores(self, call: Call[Page, None]) -> Shown:
        """A page."""
        async with self.database.transaction() as connection:
            return await page(connection, tables.stores(call.caller.tenant), call.query, tables.shown_store)

    async def store(self, call: Call[Any, None]) -> Shown:
        """The store, with the number of its files by status."""
        async with self.database.transaction() as connection:
            return tables.shown_store(await self.the_store(connection, call))

    async def change(self, call: Call[Any, StoreChange]) -> Shown:
        """Absent fields do not change."""
        wanted = call.body
        async with self.database.transaction() as connection:
            row = await self.the_store(connection, call)
        await (await self.rights(call)).change_store(row)
        given = wanted.model_fields_set
        days = wanted.expires_after.days if wanted.expires_after else None
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE stores SET name = coalesce(%s, name), metadata = coalesce(%s, metadata), "
                "expires_days = CASE WHEN %s THEN %s::int ELSE expires_days END, active = now() WHERE id = %s",
                (
                    wanted.name,
                    Jsonb(wanted.metadata) if wanted.metadata is not None else None,
                    "expires_after" in given,
                    days,
                    row["id"],
                ),
            )
            return tables.shown_store(await self.the_store(connection, call))

    async def drop(self, call: Call[Any, None]) -> Shown:
        """Searches miss the store once this returns; its files stay."""
        tenant, store = call.caller.tenant, call.path["store"]
        async with self.database.transaction() as connection:
            row = await self.the_store(connection, call)
        await (await self.rights(call)).change_store(row, "owner")
        await self.empty(tenant, store, call.caller.actor, gone=True)
        return {"id": store, "object": "vector_store.deleted", "deleted": True}

    async def empty(self, tenant: str, store: str, actor: str, *, gone: bool) -> None:
        """Remove all files from a store; `gone` also deletes the store itself."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute("SELECT file FROM store_files WHERE store = %s FOR UPDATE", (store,))
            for (file,) in await cursor.fetchall():
                await tables.note(connection, tenant, store, file, "deleted", actor)
            with self.database.joined(connection):
                await self.engine.delete(tenant, store)
            table, column = ("stores", "id") if gone else ("store_files", "store")
            await connection.execute(f"DELETE FROM {table} WHERE {column} = %s", (store,))
