"""`python tests/perf/bench_services.py`: Audit and Billing, compared with their databases on one machine in one run.

The peer is PostgreSQL itself: COPY of the same rows in the same batches, each committed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
sys.path[:0] = [str(SOURCES.parent), *(str(SOURCES / name / "src") for name in ("kit", "audit", "billing"))]

from audit.ledger import Ledger  # noqa: E402
from audit.sealing import Keys  # noqa: E402
from audit.signing import Signing  # noqa: E402
from billing import intake  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from kit import migrate  # noqa: E402
from kit.database import Database  # noqa: E402
from kit.errors import ApiError  # noqa: E402
from kit.settings import ServiceSettings  # noqa: E402

from service_images.conftest import OUTBOX, PostgresServer  # noqa: E402

BATCH, BATCHES, REPLAY = 5000, 40, 1_000_000


def events(number: int) -> list[dict[str, Any]]:
    """A batch as the router sends it."""
    data = {"tenant": "acme", "model": "small", "operation": "chat", "input_tokens": 900, "output_tokens": 80}
    return [
        {
            "specversion": "1.0",
            "id": f"{number}-{place}-{uuid.uuid4().hex[:8]}",
            "source": "/services/router",
            "type": "dev.cogniforge.usage.recorded.v1",
            "time": "2026-11-24T10:00:00Z",
            "subject": f"request/{place}",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "data": {**data, "user": f"user-{place % 100}", "duration_ms": 12.5},
        }
        for place in range(BATCH)
    ]


async def measure(title: str, take: Callable[[list[dict[str, Any]]], Awaitable[Any]]) -> float:
    """Events per second."""
    batches = [events(number) for number in range(BATCHES)]
    started = time.perf_counter()
    for batch in batches:
        await take(batch)
    rate = BATCH * BATCHES / (time.perf_counter() - started)
    print(f"{title:60} {rate:10,.0f} events/s", flush=True)
    return rate


def prepared(server: PostgresServer, service: str) -> ServiceSettings:
    """A database as the platform provisions it, with the service's tables."""
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {service} LOGIN")
        connection.execute(f"CREATE DATABASE {service} OWNER {service}")
    with psycopg.connect(server.url(service), autocommit=True) as connection:
        connection.execute(OUTBOX.format(owner=service))
    port = server.port
    found = ServiceSettings(name=service, postgres_host="127.0.0.1", postgres_port=port, postgres_pool_port=port)
    migrate.migrate(service, found.database(pooled=False))
    return found


async def peer(server: PostgresServer) -> float:
    """COPY alone, as the baseline."""
    connection = await psycopg.AsyncConnection.connect(server.url("postgres"))
    await connection.execute("CREATE TABLE peer (source text, id text, tenant text, time text, leaf text)")
    await connection.commit()

    async def copy(batch: list[dict[str, Any]]) -> None:
        async with connection.cursor() as cursor, cursor.copy("COPY peer FROM STDIN") as rows:
            for e in batch:
                await rows.write_row((e["source"], e["id"], e["data"]["tenant"], e["time"], str(e["data"])))
        await connection.commit()

    rate = await measure("PostgreSQL: COPY of the rows, committed by batch", copy)
    await connection.close()
    return rate


async def replay(server: PostgresServer, billing: Database) -> None:
    """A million events during ten kills of the database: batches are repeated until they are acknowledged."""
    began, kills = time.perf_counter(), 0
    for number in range(REPLAY // BATCH):
        batch = [{**event, "id": f"replay-{number}-{place}"} for place, event in enumerate(events(number))]
        taking = asyncio.create_task(intake.take(billing, batch))
        if number % (REPLAY // BATCH // 10) == 5:
            await asyncio.sleep(0.02)
            server.kill()  # in the middle of a batch
            kills += 1
            server.start()
        while True:
            try:
                await taking
                break
            except ApiError:
                taking = asyncio.create_task(intake.take(billing, batch))
        if number % 7 == 0:
            assert await intake.take(billing, batch) == 0, "what is taken is taken once"
    async with billing.transaction() as connection:
        cursor = await connection.execute("SELECT count(*), sum(input_tokens) FROM usage WHERE id LIKE 'replay-%'")
        found = await cursor.fetchone()
    assert found == (REPLAY, REPLAY * 900), found
    seconds = time.perf_counter() - began
    print(f"Billing: {REPLAY:,} events through {kills} kills of the database: 0 lost, 0 doubled, {seconds:.0f} s")


async def run(server: PostgresServer) -> None:
    """Run all benchmarks."""
    base = await peer(server)
    audit = Database(prepared(server, "audit"))
    await audit.open()
    ledger = Ledger(audit, Keys("secret"), Signing("bench", Ed25519PrivateKey.generate()))
    rate = await measure("Audit: sealed, hashed, under a signed checkpoint, on disk", ledger.append)
    print(f"{'':60} {rate / base:10.2f} of the peer")
    await audit.close()
    billing = Database(prepared(server, "billing"))
    await billing.open()
    rate = await measure("Billing: each event once, on disk", lambda batch: intake.take(billing, batch))
    print(f"{'':60} {rate / base:10.2f} of the peer")
    await replay(server, billing)
    await billing.close()


def main() -> None:
    """Start a server, measure, stop it."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    server = PostgresServer(folder, 55432)
    server.start()
    try:
        asyncio.run(run(server))
    finally:
        server.kill()


if __name__ == "__main__":
    main()
