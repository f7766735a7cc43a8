"""Retriever's REST operations."""

from __future__ import annotations

import uuid
from pathlib import PurePosixPath
from typing import Any, cast

from kit import directory, rest
from kit.database import Connection, Database
from kit.directory import bearer
from kit.errors import ApiError, missing
from kit.objects import Objects
from kit.rest import Call, Operation
from psycopg.types.json import Jsonb
from python_multipart.exceptions import MultipartParseError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response

from retriever import reading, tables
from retriever.answering import Answering
from retriever.engines import Engine, Hit, Scope, Where
from retriever.ingest import Ingest
from retriever.models import Answered, Ask, NewStore, NewStoreFile, Page, Ranking, Search, Upload
from retriever.searching import Readers, Searching

SCOPE = directory.Scope.RETRIEVAL
MAX_FILE = 32 * 2**20
_FILE = ("file", r"file-[0-9a-f]{32}", "A file's id")
_STORE = ("store", r"vs_[0-9a-f]{32}", "A store's id")
Shown = dict[str, Any]


def document() -> dict[str, Any]:
    """The OpenAPI document."""
    return rest.document("Retriever", Api.operations(cast("Api", Api)))


class Api:
    """The operations."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        engine: Engine,
        ingest: Ingest,
        searching: Searching,
        readers: Readers,
        answering: Answering,
    ) -> None:
        self._database, self._objects, self._engine = database, objects, engine
        self._ingest, self._searching, self._readers, self._answering = ingest, searching, readers, answering

    def operations(self) -> list[Operation]:
        """All of them; asked of the class itself they are described, and cannot be called."""
        store, stores = "/v1/vector_stores/{store}", "/v1/vector_stores"
        file: Shown = {"parameters": (_FILE,), "scope": SCOPE, "failures": (404,)}
        one: Shown = {"parameters": (_STORE,), "scope": SCOPE, "failures": (404,)}
        both: Shown = {"parameters": (_STORE, _FILE), "scope": SCOPE, "failures": (404,)}
        return [
            Operation("POST", "/v1/files", "Upload a file.", self.upload, body=Upload, raw=True, scope=SCOPE,
                      failures=(413,), makes=True),
            Operation("GET", "/v1/files", "All files, the newest first.", self.files, query=Page, scope=SCOPE),
            Operation("GET", "/v1/files/{file}", "A file.", self.file, **file),
            Operation("GET", "/v1/files/{file}/content", "What is in a file.", self.content,
                      media="application/octet-stream", **file),
            Operation("DELETE", "/v1/files/{file}", "Take a file away, out of all stores.", self.drop_file, **file),
            Operation("POST", stores, "Make a store.", self.make, body=NewStore, scope=SCOPE,
                      makes=True),
            Operation("GET", stores, "All stores, the newest first.", self.stores, query=Page, scope=SCOPE),
            Operation("GET", store, "A store.", self.store, **one),
            Operation("DELETE", store, "Take a store away, with its passages.", self.drop, **one),
            Operation("POST", store + "/files", "Put a file into a store.", self.add, body=NewStoreFile,
                      makes=True, **one),
            Operation("GET", store + "/files", "A store's files.", self.store_files, query=Page, **one),
            Operation("GET", store + "/files/{file}", "A file in a store.", self.store_file, **both),
            Operation("DELETE", store + "/files/{file}", "Take a file out of a store.", self.remove, **both),
            Operation("POST", store + "/search", "Find passages.", self.search, body=Search, **one),
            Operation("POST", store + "/answer", "Answer a question from a store, with citations.", self.answer,
                      Answered, body=Ask, parameters=(_STORE,), scope=SCOPE, failures=(404, 429)),
        ]  # fmt: skip

    # --- files ------------------------------------------------------------------------------------

    async def upload(self, call: Call[Any, None]) -> Shown:
        """The form is read as it comes; the file is kept before it is told."""
        if int(call.request.headers.get("content-length") or 0) > MAX_FILE + 64 * 1024:
            raise ApiError(413, f"A file has at most {MAX_FILE} bytes.")
        try:
            async with call.request.form(max_files=1, max_fields=4, max_part_size=64 * 1024) as form:
                file, purpose = form.get("file"), form.get("purpose", "assistants")
                if not isinstance(file, UploadFile) or purpose not in ("assistants", "user_data"):
                    raise ApiError(400, "a form with file, and purpose assistants or user_data", param="file")
                content = await file.read(MAX_FILE + 1)
                name = PurePosixPath((file.filename or "").replace("\x00", "")).name[-200:]
        except (HTTPException, MultipartParseError, UnicodeDecodeError, ValueError, AssertionError) as error:
            reason = error.detail if isinstance(error, HTTPException) else str(error)
            raise ApiError(400, f"the form cannot be read: {reason}"[:300], param="file") from None
        if len(content) > MAX_FILE:
            raise ApiError(413, f"A file has at most {MAX_FILE} bytes.")
        try:
            reading.kind(name)
        except reading.Unreadable as error:
            raise ApiError(400, f"file: {error}", param="file", code="unsupported_file") from None
        tenant, made = call.caller.tenant, f"file-{uuid.uuid4().hex}"
        await self._objects.put(f"{tenant}/{made}", content)
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO files (id, tenant, name, bytes, media, purpose) VALUES (%s, %s, %s, %s, %s, %s)",
                (made, tenant, name, len(content), "", purpose),
            )
            return await tables.file(connection, tenant, made)

    async def files(self, call: Call[Page, None]) -> Shown:
        """A page."""
        async with self._database.transaction() as connection:
            return _list(
                await tables.files(connection, call.caller.tenant, call.query.after, call.query.limit + 1), call
            )

    async def file(self, call: Call[Any, None]) -> Shown:
        """As it was uploaded."""
        async with self._database.transaction() as connection:
            return await tables.file(connection, call.caller.tenant, call.path["file"])

    async def content(self, call: Call[Any, None]) -> Response:
        """Its bytes; for who sees everything of the tenant, as readers are of passages."""
        if await self._readers.of(call.caller, bearer(call.request.headers)) is not None:
            raise missing("file")
        async with self._database.transaction() as connection:
            found = await tables.file(connection, call.caller.tenant, call.path["file"])
        content = await self._objects.get(f"{call.caller.tenant}/{found['id']}")
        return Response(content, media_type="application/octet-stream")

    async def drop_file(self, call: Call[Any, None]) -> Shown:
        """Found no more once this returns."""
        tenant, file = call.caller.tenant, call.path["file"]
        async with self._database.transaction() as connection:
            await tables.file(connection, tenant, file)
            cursor = await connection.execute("SELECT store FROM store_files WHERE file = %s FOR UPDATE", (file,))
            for (store,) in await cursor.fetchall():
                await self._engine.delete(tenant, store, file)
                await tables.note(connection, tenant, store, file, "deleted", call.caller.actor)
            await connection.execute("DELETE FROM files WHERE id = %s", (file,))
        await self._objects.delete(f"{tenant}/{file}")
        return {"id": file, "object": "file", "deleted": True}

    # --- stores -----------------------------------------------------------------------------------

    async def make(self, call: Call[Any, NewStore]) -> Shown:
        """Empty."""
        made, tenant = f"vs_{uuid.uuid4().hex}", call.caller.tenant
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO stores (id, tenant, name, metadata) VALUES (%s, %s, %s, %s)",
                (made, tenant, call.body.name, Jsonb(call.body.metadata)),
            )
            return await tables.store(connection, tenant, made)

    async def stores(self, call: Call[Page, None]) -> Shown:
        """A page."""
        query = call.query
        async with self._database.transaction() as connection:
            return _list(await tables.stores(connection, call.caller.tenant, query.after, query.limit + 1), call)

    async def store(self, call: Call[Any, None]) -> Shown:
        """With how many files wait, are in, or have failed."""
        async with self._database.transaction() as connection:
            return await self._store(connection, call)

    @staticmethod
    async def _store(connection: Connection, call: Call[Any, Any]) -> Shown:
        return await tables.store(connection, call.caller.tenant, call.path["store"])

    async def drop(self, call: Call[Any, None]) -> Shown:
        """Found no more once this returns; files stay."""
        tenant, store = call.caller.tenant, call.path["store"]
        async with self._database.transaction() as connection:
            await self._store(connection, call)
            cursor = await connection.execute("SELECT file FROM store_files WHERE store = %s FOR UPDATE", (store,))
            for (file,) in await cursor.fetchall():
                await tables.note(connection, tenant, store, file, "deleted", call.caller.actor)
            await self._engine.delete(tenant, store)
            await connection.execute("DELETE FROM stores WHERE id = %s", (store,))
        return {"id": store, "object": "vector_store.deleted", "deleted": True}

    async def add(self, call: Call[Any, NewStoreFile]) -> Shown:
        """It is read soon; again with other attributes or readers, and it is read anew."""
        wanted, store = call.body, call.path["store"]
        static = wanted.chunking_strategy.static
        if static.chunk_overlap_tokens * 2 > static.max_chunk_size_tokens:
            raise ApiError(
                400, "chunk_overlap_tokens: at most half of max_chunk_size_tokens", param="chunking_strategy"
            )
        async with self._database.transaction() as connection:
            await self._store(connection, call)
            await tables.file(connection, call.caller.tenant, wanted.file_id)
            await connection.execute(
                "INSERT INTO store_files (store, file, attributes, readers, chunk_tokens, overlap_tokens, actor) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (store, file) DO UPDATE SET status = 'in_progress', "
                "error = '', attempts = 0, attributes = excluded.attributes, readers = excluded.readers, "
                "chunk_tokens = excluded.chunk_tokens, overlap_tokens = excluded.overlap_tokens, "
                "actor = excluded.actor",
                (
                    store,
                    wanted.file_id,
                    Jsonb(wanted.attributes),
                    list(wanted.readers),
                    static.max_chunk_size_tokens,
                    static.chunk_overlap_tokens,
                    call.caller.actor,
                ),
            )
            # What is there may be for other readers: it is gone until it is read anew.
            await self._engine.delete(call.caller.tenant, store, wanted.file_id)
            found = await tables.store_file(connection, store, wanted.file_id)
        self._ingest.wake()
        return found

    async def store_files(self, call: Call[Page, None]) -> Shown:
        """A page."""
        async with self._database.transaction() as connection:
            await self._store(connection, call)
            found = await tables.store_files(connection, call.path["store"], call.query.after, call.query.limit + 1)
        return _list(found, call)

    async def store_file(self, call: Call[Any, None]) -> Shown:
        """Whether it is in yet."""
        async with self._database.transaction() as connection:
            await self._store(connection, call)
            return await tables.store_file(connection, call.path["store"], call.path["file"])

    async def remove(self, call: Call[Any, None]) -> Shown:
        """Found no more once this returns; the file stays."""
        tenant, store, file = call.caller.tenant, call.path["store"], call.path["file"]
        async with self._database.transaction() as connection:
            await self._store(connection, call)
            cursor = await connection.execute("DELETE FROM store_files WHERE store = %s AND file = %s", (store, file))
            if not cursor.rowcount:
                raise missing("file")
            await self._engine.delete(tenant, store, file)
            await tables.note(connection, tenant, store, file, "deleted", call.caller.actor)
        return {"id": file, "object": "vector_store.file.deleted", "deleted": True}

    # --- questions --------------------------------------------------------------------------------

    async def _found(
        self, call: Call[Any, Any], query: str, limit: int, where: Where, ranking: Ranking
    ) -> tuple[list[Hit], dict[str, str]]:
        tenant, store = call.caller.tenant, call.path["store"]
        readers = await self._readers.of(call.caller, bearer(call.request.headers))
        async with self._database.transaction() as connection:
            await self._store(connection, call)
        hits = await self._searching.search(Scope(tenant, store, readers, where), query, limit, ranking)
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT id, name FROM files WHERE tenant = %s AND id = ANY(%s)",
                (tenant, [hit.document for hit in hits]),
            )
            names = dict(await cursor.fetchall())
        # A file that was taken away in this moment is not told any more.
        return [hit for hit in hits if hit.document in names], names

    async def search(self, call: Call[Any, Search]) -> Shown:
        """The best first."""
        asked = call.body
        hits, names = await self._found(call, asked.query, asked.max_num_results, asked.filters, asked.ranking_options)
        data = [
            {
                "file_id": hit.document,
                "filename": names[hit.document],
                "score": hit.score,
                "attributes": hit.attributes,
                "content": [{"type": "text", "text": hit.content}],
            }
            for hit in hits
        ]
        page = {"object": "vector_store.search_results.page", "search_query": [asked.query]}
        return {**page, "data": data, "has_more": False, "next_page": None}

    async def answer(self, call: Call[Any, Ask]) -> Answered:
        """Asked of the router with the caller's own key."""
        asked = call.body
        hits, names = await self._found(
            call, asked.question, asked.max_num_results, asked.filters, asked.ranking_options
        )
        passed = {
            name: value
            for name in ("authorization", "x-api-key", "x-request-id")
            if (value := call.request.headers.get(name, "")).isascii() and value.isprintable() and value
        }
        return await self._answering.answer(asked, hits, names, passed)


def _list(found: list[Shown], call: Call[Page, Any]) -> Shown:
    data = found[: call.query.limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(found) > len(data)}
