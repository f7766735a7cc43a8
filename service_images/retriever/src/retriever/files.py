"""Operations on files."""

from __future__ import annotations

import re
import uuid
from pathlib import PurePosixPath
from typing import Any

from kit.database import Connection
from kit.errors import ApiError, ErrorType
from kit.forms import Form
from kit.rest import Call, Operation, problem
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.responses import Response

from retriever import reading, tables
from retriever.handling import FILE, SCOPE, Handling, Shown, page
from retriever.models import FileExpiry, FilePage, Purpose, Readers, Upload

FORM = Form(file_bytes=32 * 2**20, at_once_bytes=96 * 2**20)
"""Uploads are spooled to /tmp, whose volume is larger than all concurrent uploads."""
_FIELDS = frozenset(("file", "purpose", "readers", "readers[]", "expires_after[anchor]", "expires_after[seconds]"))
_PURPOSE = TypeAdapter[str](Purpose)
_READERS = TypeAdapter[tuple[str, ...]](Readers)


class Files(Handling):
    """Handlers."""

    def file_operations(self) -> list[Operation]:
        """Operations on files."""
        one: Shown = {"parameters": (FILE,), "scope": SCOPE, "failures": (404,)}
        return [
            Operation("POST", "/v1/files", "Upload a file.", self.upload, body=Upload, form=FORM, scope=SCOPE,
                      failures=(413, 429, 507), makes=True),
            Operation("GET", "/v1/files", "List the caller's visible files.", self.files, query=FilePage, scope=SCOPE),
            Operation("GET", "/v1/files/{file}", "Get a file.", self.file, **one),
            Operation("GET", "/v1/files/{file}/content", "Get the content of a file.", self.content,
                      media="application/octet-stream", **one),
            Operation("DELETE", "/v1/files/{file}", "Delete a file, in all stores.", self.drop_file, **one),
        ]  # fmt: skip

    async def upload(self, call: Call[Any, FormData]) -> Shown:
        """The content is in the object store before its row is in the table."""
        file, purpose, readers, expires = _fields(call.body)
        name = PurePosixPath((file.filename or "").replace("\x00", "")).name[-200:]
        try:
            reading.kind(name)
        except reading.Unreadable as error:
            raise ApiError(400, f"file: {error}", param="file", code="unsupported_file") from None
        tenant, made = call.caller.tenant, f"file-{uuid.uuid4().hex}"
        size = file.size or 0
        async with self.database.transaction() as connection:
            await self.quotas.check(connection, tenant, {"files": 1, "bytes of files": size})
            await self._fits(connection, size)
        async with self.keeping:
            await self.objects.put(f"{tenant}/{made}", await file.read())
        async with self.database.transaction() as connection:
            await self.quotas.use(connection, tenant, {"files": 1, "bytes of files": size})
            await connection.execute(
                "INSERT INTO files (id, tenant, name, bytes, media, purpose, owner, readers, expires) "
                "VALUES (%s, %s, %s, %s, '', %s, %s, %s, now() + make_interval(secs => %s))",
                (made, tenant, name, size, purpose, call.caller.actor, list(readers), expires),
            )
            return tables.shown_file(await tables.file(connection, tenant, made))

    async def _fits(self, connection: Connection, size: int) -> None:
        """Raises ApiError(507) if the file would use space that backups in the same store need."""
        if not self.room_bytes:
            return
        row = await (await connection.execute("SELECT coalesce(sum(bytes), 0)::bigint FROM files")).fetchone()
        if row and row[0] + size > self.room_bytes:
            message = (
                "The space for documents in the object store is used up; nothing was stored. The operator can enlarge "
                "the store: data.objectStore.storage."
            )
            raise ApiError(507, message, ErrorType.SERVER, code="storage_full")

    async def files(self, call: Call[FilePage, None]) -> Shown:
        """A page."""
        query = await (await self.rights(call)).files(tables.files(call.caller.tenant))
        if call.query.purpose:
            query = query.where("d.purpose = %(purpose)s", purpose=call.query.purpose)
        async with self.database.transaction() as connection:
            return await page(connection, query, call.query, tables.shown_file)

    async def _seen_file(self, call: Call[Any, None]) -> Shown:
        async with self.database.transaction() as connection:
            row = await tables.file(connection, call.caller.tenant, call.path["file"])
        await (await self.rights(call)).see_file(row)
        return row

    async def file(self, call: Call[Any, None]) -> Shown:
        """The metadata of a file."""
        return tables.shown_file(await self._seen_file(call))

    async def content(self, call: Call[Any, None]) -> Response:
        """The file's bytes as an attachment, so that no browser renders an uploaded page in the platform's origin."""
        row = await self._seen_file(call)
        content = await self.objects.get(f"{call.caller.tenant}/{row['id']}")
        headers = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def drop_file(self, call: Call[Any, None]) -> Shown:
        """Searches miss the file's passages once this returns."""
        tenant, file = call.caller.tenant, call.path["file"]
        async with self.database.transaction() as connection:
            row = await tables.file(connection, tenant, file)
        await (await self.rights(call)).change_file(row, "owner")
        await self.delete_file(tenant, file, call.caller.actor)
        return {"id": file, "object": "file", "deleted": True}

    async def delete_file(self, tenant: str, file: str, actor: str) -> None:
        """Delete passages, row and content, in this order."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute("SELECT store FROM store_files WHERE file = %s FOR UPDATE", (file,))
            with self.database.joined(connection):
                for (store,) in await cursor.fetchall():
                    await self.engine.delete(tenant, store, file)
                    await tables.note(connection, tenant, store, file, "deleted", actor)
            await connection.execute("DELETE FROM files WHERE tenant = %s AND id = %s", (tenant, file))
        await self.objects.delete(f"{tenant}/{file}")


def _fields(form: FormData) -> tuple[UploadFile, str, tuple[str, ...], int | None]:
    """(file, purpose, readers, seconds until it expires). Raises ApiError(400)."""
    if unknown := sorted(set(form.keys()) - _FIELDS):
        message = f"{', '.join(unknown)}: unknown field; known fields are {', '.join(sorted(_FIELDS))}"
        raise ApiError(400, message, param=unknown[0])
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise ApiError(400, "file: the form must hold a file", param="file")
    texts = {key: [value for value in form.getlist(key) if isinstance(value, str)] for key in form}
    try:
        where = "purpose"
        purpose = _PURPOSE.validate_python(texts.get("purpose", ["assistants"])[-1])
        where = "readers"
        given = [*texts.get("readers", []), *texts.get("readers[]", [])]
        names = [name for text in given for name in re.split(r"[\s,]+", text) if name]
        readers = _READERS.validate_python(tuple(names)) if given else ()
        where = "expires_after"
        given_parts = {key: texts.get(f"expires_after[{key}]") for key in ("anchor", "seconds")}
        parts = {key: values[-1] for key, values in given_parts.items() if values}
        expiry = FileExpiry.model_validate(parts) if parts else None
    except ValidationError as error:
        found = problem(error, where)
        raise ApiError(400, found.message, param=where) from None
    return file, purpose, readers, expiry.seconds if expiry else None
