"""Operations on files in stores, singly and in batches."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from kit.database import Connection
from kit.errors import ApiError, missing
from kit.rest import Call, Operation
from kit.workers import JobFailed
from psycopg.types.json import Jsonb

from retriever import reading, tables
from retriever.handling import BATCH, FILE, SCOPE, STORE, STORES, Handling, Shown, page
from retriever.models import Chunking, NewBatch, NewStoreFile, StoreFileChange, StoreFilePage
from retriever.rights import passages_of

Addable = tuple[NewStoreFile, tuple[str, ...]]
"""A file, and the readers of its passages."""
_PUT = """
INSERT INTO store_files (store, file, attributes, readers, chunk_tokens, overlap_tokens, actor, batch)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (store, file) DO UPDATE SET status = 'in_progress', error = '',
code = '', attempts = 0, waits = 0, lease = '', free_at = 'epoch', attributes = excluded.attributes,
readers = excluded.readers, chunk_tokens = excluded.chunk_tokens, overlap_tokens = excluded.overlap_tokens,
actor = excluded.actor, batch = excluded.batch
"""


class StoreFiles(Handling):
    """Handlers."""

    def store_file_operations(self) -> list[Operation]:
        """Operations on files in stores."""
        files, batches = STORES + "/{store}/files", STORES + "/{store}/file_batches"
        file, batch = files + "/{file}", batches + "/{batch}"
        one: Shown = {"parameters": (STORE,), "scope": SCOPE, "failures": (404,)}
        both: Shown = {"parameters": (STORE, FILE), "scope": SCOPE, "failures": (404,)}
        of: Shown = {"parameters": (STORE, BATCH), "scope": SCOPE, "failures": (404,)}
        return [
            Operation("POST", files, "Add a file to a store.", self.add, body=NewStoreFile, makes=True, **one),
            Operation("GET", files, "List a store's readable files.", self.store_files, query=StoreFilePage,
                      **one),
            Operation("GET", file, "Get a file in a store.", self.store_file, **both),
            Operation("POST", file, "Change the attributes of a file in a store.", self.change_file,
                      body=StoreFileChange, **both),
            Operation("GET", file + "/content", "Get the extracted text of a file.", self.parsed,
                      **{**both, "failures": (404, 413, 429)}),
            Operation("DELETE", file, "Remove a file from a store.", self.remove, **both),
            Operation("POST", batches, "Add files to a store.", self.add_batch, body=NewBatch, makes=True, **one),
            Operation("GET", batch, "Get the state of a batch.", self.batch, **of),
            Operation("POST", batch + "/cancel", "Cancel a batch.", self.cancel, **of),
            Operation("GET", batch + "/files", "List a batch's readable files.", self.batch_files,
                      query=StoreFilePage, **of),
        ]  # fmt: skip

    async def addable(self, call: Call[Any, Any], entries: Sequence[NewStoreFile]) -> list[Addable]:
        """Files that the caller may add to stores. Raises ApiError: 404 for an invisible file, 403, or 400."""
        found: list[Addable] = []
        rights = await self.rights(call)
        async with self.database.transaction() as connection:
            rows = [await tables.file(connection, call.caller.tenant, entry.file_id) for entry in entries]
        for entry, row in zip(entries, rows, strict=True):
            await rights.change_file(row, "editor")
            found.append((entry, passages_of(row, entry.readers)))
        return found

    async def put(
        self,
        connection: Connection,
        call: Call[Any, Any],
        store: str,
        files: Sequence[Addable],
        batch: str | None = None,
    ) -> None:
        """Add files to a store. Searches miss a file that is added again until it is read anew."""
        for entry, readers in files:
            static = (entry.chunking_strategy or Chunking()).static
            await connection.execute(
                _PUT,
                (
                    store,
                    entry.file_id,
                    Jsonb(entry.attributes or {}),
                    list(readers),
                    static.max_chunk_size_tokens,
                    static.chunk_overlap_tokens,
                    call.caller.actor,
                    batch,
                ),
            )
            with self.database.joined(connection):
                await self.engine.delete(call.caller.tenant, store, entry.file_id)
        if files:
            await connection.execute("UPDATE stores SET active = now() WHERE id = %s", (store,))

    async def _changeable(self, call: Call[Any, Any]) -> Shown:
        async with self.database.transaction() as connection:
            row = await self.the_store(connection, call)
        await (await self.rights(call)).change_store(row)
        return row

    async def add(self, call: Call[Any, NewStoreFile]) -> Shown:
        """The file is read soon. Adding it again with other attributes or readers reads it anew."""
        store = (await self._changeable(call))["id"]
        files = await self.addable(call, [call.body])
        async with self.database.transaction() as connection:
            await self.quotas.check(connection, call.caller.tenant, {"passages": 1})
            await self.put(connection, call, store, files)
            found = tables.shown_store_file(await tables.store_file(connection, store, call.body.file_id))
        self.ingest.wake()
        return found

    async def store_files(self, call: Call[StoreFilePage, None]) -> Shown:
        """A page."""
        return await self._page(call, tables.store_files(call.path["store"]))

    async def _page(self, call: Call[StoreFilePage, None], query: tables.Query) -> Shown:
        query = (await self.rights(call)).store_files(query)
        if call.query.filter:
            query = query.where("f.status = %(status)s", status=call.query.filter)
        async with self.database.transaction() as connection:
            await self.the_store(connection, call)
            return await page(connection, query, call.query, tables.shown_store_file)

    async def _seen(self, call: Call[Any, Any]) -> Shown:
        query = tables.store_files(call.path["store"]).where("f.file = %(file)s", file=call.path["file"])
        query = (await self.rights(call)).store_files(query)
        async with self.database.transaction() as connection:
            await self.the_store(connection, call)
            return await query.one(connection, "file")

    async def store_file(self, call: Call[Any, None]) -> Shown:
        """The state of a file in a store."""
        return tables.shown_store_file(await self._seen(call))

    async def parsed(self, call: Call[Any, None]) -> Shown:
        """The whole text in one part."""
        row = await self._seen(call)
        tenant = call.caller.tenant
        async with self.database.transaction() as connection:
            file = await tables.file(connection, tenant, row["file"])
        content = await self.objects.get(f"{tenant}/{row['file']}")
        try:
            text = await self.workers.call(tenant, reading.text, file["name"], content=content)
        except JobFailed as error:
            raise ApiError(400, f"file: {error.message}", param="file", code="invalid_file") from None
        page = {"object": "vector_store.file_content.page", "has_more": False, "next_page": None}
        return {**page, "data": [{"type": "text", "text": text}], "filename": file["name"]}

    async def change_file(self, call: Call[Any, StoreFileChange]) -> Shown:
        """The passages are written anew; until then, searches use the old attributes."""
        store, file = (await self._changeable(call))["id"], call.path["file"]
        await self._seen(call)
        async with self.database.transaction() as connection:
            await connection.execute(
                "UPDATE store_files SET attributes = %s, status = 'in_progress', error = '', code = '', attempts = 0, "
                "waits = 0, lease = '', free_at = 'epoch' WHERE store = %s AND file = %s",
                (Jsonb(call.body.attributes or {}), store, file),
            )
            await connection.execute("UPDATE stores SET active = now() WHERE id = %s", (store,))
            found = tables.shown_store_file(await tables.store_file(connection, store, file))
        self.ingest.wake()
        return found

    async def remove(self, call: Call[Any, None]) -> Shown:
        """Searches miss the file once this returns; the file itself stays. Needs a right to the store or the file."""
        tenant, store, file = call.caller.tenant, call.path["store"], call.path["file"]
        async with self.database.transaction() as connection:
            row = await self.the_store(connection, call)
            there = await tables.store_file(connection, store, file)
        if there["owner"] != call.caller.actor:
            await (await self.rights(call)).change_store(row)
        async with self.database.transaction() as connection:
            cursor = await connection.execute("DELETE FROM store_files WHERE store = %s AND file = %s", (store, file))
            if not cursor.rowcount:
                raise missing("file")
            with self.database.joined(connection):
                await self.engine.delete(tenant, store, file)
            await tables.note(connection, tenant, store, file, "deleted", call.caller.actor)
        return {"id": file, "object": "vector_store.file.deleted", "deleted": True}

    # --- batches ----------------------------------------------------------------------------------

    async def add_batch(self, call: Call[Any, NewBatch]) -> Shown:
        """Adds all files or none."""
        store, made = (await self._changeable(call))["id"], f"vsfb_{uuid.uuid4().hex}"
        files = await self.addable(call, call.body.entries)
        async with self.database.transaction() as connection:
            await self.quotas.check(connection, call.caller.tenant, {"passages": len(files)})
            await connection.execute("INSERT INTO batches (id, store) VALUES (%s, %s)", (made, store))
            await self.put(connection, call, store, files, made)
            found = tables.shown_batch(await tables.batch(connection, store, made))
        self.ingest.wake()
        return found

    async def batch(self, call: Call[Any, None]) -> Shown:
        """The batch, with the number of its files by status."""
        async with self.database.transaction() as connection:
            await self.the_store(connection, call)
            return tables.shown_batch(await tables.batch(connection, call.path["store"], call.path["batch"]))

    async def cancel(self, call: Call[Any, None]) -> Shown:
        """Finished files stay in the store; the others are not processed."""
        store, batch = (await self._changeable(call))["id"], call.path["batch"]
        async with self.database.transaction() as connection:
            await tables.batch(connection, store, batch)
            await connection.execute("UPDATE batches SET cancelled = true WHERE id = %s", (batch,))
            cursor = await connection.execute(
                "UPDATE store_files SET status = 'cancelled', lease = '' WHERE batch = %s AND status = 'in_progress' "
                "RETURNING file",
                (batch,),
            )
            with self.database.joined(connection):
                for (file,) in await cursor.fetchall():
                    await self.engine.delete(call.caller.tenant, store, file)
            return tables.shown_batch(await tables.batch(connection, store, batch))

    async def batch_files(self, call: Call[StoreFilePage, None]) -> Shown:
        """A page."""
        async with self.database.transaction() as connection:
            await tables.batch(connection, call.path["store"], call.path["batch"])
        query = tables.store_files(call.path["store"]).where("f.batch = %(batch)s", batch=call.path["batch"])
        return await self._page(call, query)
