"""Files into passages: taken one by one from the table, so that whatever stops is gone on with by whoever is left."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from kit import logs
from kit.database import Database
from kit.errors import ApiError
from kit.objects import Objects
from psycopg.rows import dict_row

from retriever import chunking, reading, tables
from retriever.embedding import Embedder
from retriever.engines import Engine, Point

log = logs.get("retriever.ingest")
ATTEMPTS = 5
_EVERY_S = 0.5
_BATCH = 128
_TAKE = """
SELECT f.store, f.file, f.attributes, f.readers, f.chunk_tokens, f.overlap_tokens, f.attempts, f.actor, d.tenant, d.name
FROM store_files f JOIN files d ON d.id = f.file WHERE f.status = 'in_progress'
ORDER BY f.attempts, f.created LIMIT 1 FOR UPDATE OF f SKIP LOCKED
"""


@dataclass
class Ingest:
    """For ever."""

    database: Database
    objects: Objects
    embedder: Embedder
    engine: Engine

    def __post_init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """There is work."""
        self._woken.set()

    async def run(self) -> None:
        """What fails for want of another service is tried again; what cannot be read is said to have failed."""
        while True:
            try:
                more = await self._one()
            except Exception as error:
                more = False
                log.warning("a file is not taken yet", reason=repr(error))
            if not more:
                self._woken.clear()
                try:
                    await asyncio.wait_for(self._woken.wait(), _EVERY_S)
                except TimeoutError:
                    continue

    async def _one(self) -> bool:
        """Whether there was one. Its row is held meanwhile: nobody else takes it, and who takes it away waits."""
        async with self.database.transaction() as connection:
            async with connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(_TAKE)
                row = await cursor.fetchone()
            if row is None:
                return False
            status, error, count = "completed", "", 0
            try:
                count = await self._index(row)
            except reading.Unreadable as reason:
                status, error = "failed", str(reason)
            except ApiError as reason:
                log.warning("a file waits", file=row["file"], reason=reason.message)
                if row["attempts"] + 1 < ATTEMPTS:
                    status = "in_progress"
                else:
                    status, error = "failed", reason.message
            await connection.execute(
                "UPDATE store_files SET status = %s, error = %s, passages = %s, attempts = attempts + 1 "
                "WHERE store = %s AND file = %s",
                (status, error, count, row["store"], row["file"]),
            )
            if status == "completed":
                await tables.note(connection, row["tenant"], row["store"], row["file"], "added", row["actor"], count)
        return status != "in_progress"

    async def _index(self, row: dict[str, Any]) -> int:
        """Passages of a file; those of an attempt that was cut off are written over."""
        content = await self.objects.get(f"{row['tenant']}/{row['file']}")
        text = await asyncio.to_thread(reading.text, row["name"], content)
        passages = chunking.passages(text, row["chunk_tokens"], row["overlap_tokens"])
        await self.engine.delete(row["tenant"], row["store"], row["file"])
        for first in range(0, len(passages), _BATCH):
            texts = [text[p.start : p.end] for p in passages[first : first + _BATCH]]
            vectors = await self.embedder.embed(texts)
            await self.engine.upsert(
                [
                    Point(
                        f"{row['store']}:{row['file']}:{first + number}",
                        row["tenant"],
                        row["store"],
                        row["file"],
                        first + number,
                        content,
                        vector,
                        tuple(row["readers"]),
                        row["attributes"],
                    )
                    for number, (content, vector) in enumerate(zip(texts, vectors, strict=True))
                ]
            )
        return len(passages)
