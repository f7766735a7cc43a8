"""Base of all operations' handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kit import directory
from kit.database import Connection, Database
from kit.objects import Objects
from kit.quotas import Quotas
from kit.rest import Call
from kit.workers import Workers

from retriever import tables
from retriever.answering import Answering
from retriever.engines import Engine
from retriever.ingest import Ingest
from retriever.models import Page
from retriever.rights import Rights
from retriever.searching import Readers, Searching

SCOPE = directory.Scope.RETRIEVAL
_ID = r"[A-Za-z0-9_-]{1,64}"
"""Pattern of IDs. It allows more than the generated ones: others are answered with 404, as by OpenAI."""
FILE = ("file", _ID, "A file's id")
STORE = ("store", _ID, "A store's id")
BATCH = ("batch", _ID, "A batch's id")
STORES = "/v1/vector_stores"
Shown = dict[str, Any]


@dataclass
class Handling:
    """Dependencies of the handlers."""

    database: Database
    objects: Objects
    engine: Engine
    ingest: Ingest
    searching: Searching
    readers: Readers
    answering: Answering
    workers: Workers
    quotas: Quotas
    room_bytes: int = 0
    """Maximum bytes of the files of all tenants; 0 means no limit."""
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Serializes uploads to the object store. Each is in memory, of which a replica has little beside its workers."""

    async def rights(self, call: Call[Any, Any]) -> Rights:
        """Rights of the caller."""
        return await Rights.of(self.readers, call)

    @staticmethod
    async def the_store(connection: Connection, call: Call[Any, Any]) -> Shown:
        """Row of the store in the path. Raises ApiError(404)."""
        return await tables.store(connection, call.caller.tenant, call.path["store"])


def listed(rows: list[Shown], more: bool, shown: Callable[[Shown], Shown]) -> Shown:
    """A page in OpenAI's format."""
    data = [shown(row) for row in rows]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": more}


async def page(connection: Connection, query: tables.Query, page: Page, shown: Callable[[Shown], Shown]) -> Shown:
    """One page of a query's results."""
    rows, more = await query.page(connection, page)
    return listed(rows, more, shown)
