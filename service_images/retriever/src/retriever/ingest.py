"""Ingestion: turns files into passages. Tenants take turns. An unreadable file fails with a reason; others continue.

A row of `store_files` is leased for an attempt. The attempt is counted in the transaction that takes the lease, so that
a file which crashes the process is not retried forever. Files are parsed in worker processes (`kit/workers.py`) without
an open transaction. Passages are written in short transactions that lock the row and check the lease, so that a file
which was removed or added again gets no passages of an earlier attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import prometheus_client as metrics
from kit import logs, telemetry
from kit.database import Connection, Database
from kit.errors import ApiError
from kit.objects import Objects
from kit.quotas import Quotas
from kit.workers import Busy, JobFailed, Limits, WorkError, Workers
from psycopg.rows import dict_row

from retriever import chunking, reading, tables
from retriever.embedding import Embedder
from retriever.engines import Engine, Point
from retriever.set_aside import SetAside

log = logs.get("retriever.ingest")
READING = Limits(memory_mb=96, cpu_s=10, wall_s=30, input_mb=32, answer_mb=48)
"""Limits for parsing one file. The largest texts take 80 MB and 5 s (a PDF of 2,000 pages, a JSON file of 10 MB)."""
AT_ONCE = 4
"""Files that a replica processes at once. One tenant has at most all but one of them."""
ATTEMPTS = 3
"""Attempts for failures without a known reason, such as a killed process."""
WAITS = 300
"""Maximum waits for an unavailable service; with the longest pause, about a day."""
_LONGEST_WAIT_S = 300
LEASE_S = 60
"""Lease in seconds, after which another replica takes the file of a crashed replica."""
_RENEW_S = 15.0
_EVERY_S = 0.5
_BATCH = 64
_FILES = metrics.Counter(
    "retriever_files_total", "Processed files, by outcome.", ["outcome"], registry=telemetry.REGISTRY
)
_TAKE = """
WITH turn AS (
    SELECT t.tenant FROM turns t WHERE t.tenant <> ALL(%(full)s) AND EXISTS (
        SELECT 1 FROM store_files f
        WHERE f.tenant = t.tenant AND f.status = 'in_progress' AND f.free_at <= clock_timestamp())
    ORDER BY t.served, t.tenant LIMIT 1 FOR UPDATE OF t SKIP LOCKED
), served AS (
    UPDATE turns SET served = clock_timestamp() WHERE tenant = (SELECT tenant FROM turn)
), next AS (
    SELECT f.store, f.file FROM store_files f
    WHERE f.tenant = (SELECT tenant FROM turn) AND f.status = 'in_progress' AND f.free_at <= clock_timestamp()
    ORDER BY f.attempts, f.created LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE store_files f SET attempts = f.attempts + 1, lease = %(lease)s,
    free_at = clock_timestamp() + make_interval(secs => %(seconds)s)
FROM next, files d WHERE f.store = next.store AND f.file = next.file AND d.id = f.file
RETURNING f.store, f.file, f.tenant, f.attributes, f.readers, f.chunk_tokens, f.overlap_tokens, f.attempts, f.waits,
    f.lease, f.actor, d.name
"""
_MINE = "store = %(store)s AND file = %(file)s AND lease = %(lease)s AND status = 'in_progress'"
Row = dict[str, Any]


class Gone(Exception):
    """The file was removed from the store, or added again, during processing."""


class Failed(Exception):
    """The file cannot be read. `code` is one of OpenAI's: invalid_file, unsupported_file, server_error."""

    def __init__(self, reason: str, code: str = "invalid_file") -> None:
        super().__init__(reason)
        self.code = code


@dataclass
class Ingest:
    """Background task for ingestion."""

    database: Database
    objects: Objects
    embedder: Embedder
    engine: Engine
    workers: Workers
    quotas: Quotas
    set_aside: SetAside
    running: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Start processing, because there is a new file."""
        self._woken.set()

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._loop())

    async def _loop(self) -> None:
        while True:
            try:
                more = await self._one()
            except Exception as error:
                more = False
                log.warning("cannot take a file now", reason=repr(error))
            if not more:
                self._woken.clear()
                try:
                    await asyncio.wait_for(self._woken.wait(), _EVERY_S)
                except TimeoutError:
                    continue

    async def _one(self) -> bool:
        """Process the next file. Returns whether there was one."""
        taking = asyncio.create_task(self._take())
        try:
            row = await asyncio.shield(taking)
        except asyncio.CancelledError:  # the replica is stopping, and may have leased a file meanwhile
            with contextlib.suppress(ApiError):
                if (row := await taking) is not None:
                    await self._give_back(row)
            raise
        if row is None:
            return False
        tenant = row["tenant"]
        self.running[tenant] += 1
        try:
            await self._leased(row)
        finally:
            self.running[tenant] -= 1
        return True

    async def _take(self) -> Row | None:
        full = [tenant for tenant, count in self.running.items() if count >= AT_ONCE - 1]
        values = {"full": full, "lease": uuid.uuid4().hex, "seconds": LEASE_S}
        async with self.database.transaction() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(_TAKE, values)
            return await cursor.fetchone()

    async def _leased(self, row: Row) -> None:
        """Process a leased file and renew its lease meanwhile. Stores the outcome."""
        work = asyncio.create_task(self._settled(row))
        try:
            while not (await asyncio.wait({work}, timeout=_RENEW_S))[0]:
                if not await self._renewed(row):
                    return
            outcome = work.result()
            _FILES.labels(outcome).inc()
        except Gone:
            _FILES.labels("gone").inc()
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def _renewed(self, row: Row) -> bool:
        statement = f"UPDATE store_files SET free_at = clock_timestamp() + make_interval(secs => %(s)s) WHERE {_MINE}"
        try:
            async with self.database.transaction() as connection:
                return bool((await connection.execute(statement, {**row, "s": LEASE_S})).rowcount)
        except ApiError:  # if the database stays unavailable, the lease expires
            return True

    async def _settled(self, row: Row) -> str:
        """Outcome of an attempt, which is in the table when this returns."""
        try:
            if row["attempts"] > ATTEMPTS:
                raise Failed(f"processing was interrupted {ATTEMPTS} times", "server_error")
            await self._index(row)
        except Failed as error:
            await self._end(row, "failed", str(error), error.code)
            return "failed"
        except Gone:
            raise
        except asyncio.CancelledError:
            await self._give_back(row)
            raise
        except ApiError as error:
            if error.status < 500 and not isinstance(error, Busy):  # a retry would fail too
                await self._end(row, "failed", error.message)
                return "failed"
            if row["waits"] >= WAITS:
                await self._end(row, "failed", error.message, "server_error")
                return "failed"
            await self._wait(row, error.message)
            return "waits"
        except Exception as error:
            log.error("a file cannot be processed", file=row["file"], store=row["store"], exc_info=error)
            if row["attempts"] >= ATTEMPTS:
                reason = f"processing failed {row['attempts']} times ({type(error).__name__})"
                await self._end(row, "failed", reason, "server_error")
                return "failed"
            await self._release(row)
            return "again"
        return "completed"

    @contextlib.asynccontextmanager
    async def _held(self, row: Row) -> AsyncIterator[Connection]:
        """A transaction that locks the row. Raises Gone."""
        async with self.database.transaction() as connection:
            cursor = await connection.execute(f"SELECT 1 FROM store_files WHERE {_MINE} FOR UPDATE", row)
            if await cursor.fetchone() is None:
                raise Gone
            with self.database.joined(connection):
                yield connection

    async def _end(
        self, row: Row, status: str, error: str = "", code: str = "", passages: int = 0, size: int = 0
    ) -> None:
        async with self._held(row) as connection:
            if status == "failed":  # searches must not find parts of a failed file
                await self.engine.delete(row["tenant"], row["store"], row["file"])
            await connection.execute(
                "UPDATE store_files SET status = %s, error = %s, code = %s, passages = %s, bytes = %s, lease = '' "
                "WHERE store = %s AND file = %s",
                (status, error[:1000], code, passages, size, row["store"], row["file"]),
            )
            if status == "failed":
                tries = min(row["attempts"], ATTEMPTS) + row["waits"]
                await self.set_aside.put(connection, row, error, code, tries)
            if status == "completed":
                await tables.note(connection, row["tenant"], row["store"], row["file"], "added", row["actor"], passages)
        if status == "failed":
            log.warning("a file has failed", file=row["file"], store=row["store"], reason=error)

    async def _wait(self, row: Row, reason: str) -> None:
        """Retry later, because a service is unavailable; this does not count as an attempt."""
        pause = min(_LONGEST_WAIT_S, 2 ** min(row["waits"], 10))
        log.warning("a file waits", file=row["file"], reason=reason, again_in_s=pause)
        async with self._held(row) as connection:
            await connection.execute(
                "UPDATE store_files SET attempts = attempts - 1, waits = waits + 1, lease = '', "
                f"free_at = clock_timestamp() + make_interval(secs => %(pause)s) WHERE {_MINE}",
                {**row, "pause": pause},
            )

    async def _give_back(self, row: Row) -> None:
        """Return the file for another replica, because this one is stopping. The attempt does not count."""
        with contextlib.suppress(Gone, ApiError):
            await self._release(row, uncounted=1)

    async def _release(self, row: Row, uncounted: int = 0) -> None:
        """End the lease; `uncounted` attempts are subtracted."""
        async with self._held(row) as connection:
            await connection.execute(
                "UPDATE store_files SET attempts = attempts - %(uncounted)s, lease = '', free_at = clock_timestamp() "
                f"WHERE {_MINE}",
                {**row, "uncounted": uncounted},
            )

    async def _text(self, row: Row) -> str:
        try:
            content = await self.objects.get(f"{row['tenant']}/{row['file']}")
        except ApiError as error:
            if error.status == 404:
                raise Failed("the content is missing in the object store", "server_error") from None
            raise
        try:
            return await self.workers.call(row["tenant"], reading.text, row["name"], content=content)
        except JobFailed as error:
            reason = error.message if error.kind == "Unreadable" else f"the file cannot be read: {error.message}"
            raise Failed(reason) from None
        except Busy:
            raise
        except WorkError as error:
            raise Failed(error.message) from None

    async def _index(self, row: Row) -> None:
        """Write the passages of a file, replacing those of an interrupted attempt."""
        text = await self._text(row)
        passages = await asyncio.to_thread(chunking.passages, text, row["chunk_tokens"], row["overlap_tokens"])
        async with self._held(row) as connection:
            await connection.execute(f"UPDATE store_files SET passages = 0 WHERE {_MINE}", row)
            await self.quotas.use(connection, row["tenant"], {"passages": len(passages)})
            counted = f"UPDATE store_files SET passages = %(passages)s WHERE {_MINE}"
            await connection.execute(counted, {**row, "passages": len(passages)})
            await self.engine.delete(row["tenant"], row["store"], row["file"])
        size = 0
        for first in range(0, len(passages), _BATCH):
            texts = [text[p.start : p.end] for p in passages[first : first + _BATCH]]
            vectors = await self.embedder.embed(texts)
            points = [
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
            async with self._held(row):
                await self.engine.upsert(points)
            size += sum(len(content.encode()) + 4 * len(vector) for content, vector in zip(texts, vectors, strict=True))
        await self._end(row, "completed", passages=len(passages), size=size)
