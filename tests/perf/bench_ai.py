"""`python tests/perf/bench_ai.py [guardrails|neighbours|embeddings|retriever|identity]...`: compares each with a peer.

Guardrails: its deterministic tier on texts of 2 KB beside Presidio's recognizers of the same kinds. Neighbours: small
checks of one tenant beside another's large ones. Embeddings: many clients of the batching service beside the engine
alone on the same texts in ideal batches. Retriever: 100,000 passages of 384 numbers in pgvector under HNSW beside the
exact search over the same rows. Identity: what a call between services costs for telling who calls, once a token is
known, beside its verification.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psycopg

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
SERVICES = ("kit", "guardrails", "embeddings", "retriever")
sys.path[:0] = [str(SOURCES.parent), *(str(SOURCES / name / "src") for name in SERVICES)]

from kit import migrate  # noqa: E402
from kit.database import Database  # noqa: E402

from service_images.conftest import PostgresServer  # noqa: E402
from service_images.issuer import NAMESPACE, Cluster  # noqa: E402
from service_images.ports import free_port  # noqa: E402

SENTENCE = "The delivery of order 20251124 was late again, and nobody at the desk could say why it took so long. "
ROWS, QUERIES, WANTED = 100_000, 200, 10


def each_us(work: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Microseconds of one round."""
    work()
    started = clock()
    for _ in range(rounds):
        work()
    return (clock() - started) / rounds * 1e6


def guardrails() -> None:
    """Texts of 2 KB: without findings, and with three."""
    import tldextract
    from guardrails.detectors import DETECTORS
    from guardrails.scanner import Scanner
    from presidio_analyzer import predefined_recognizers as theirs

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    scanner = Scanner()
    peers = [theirs.EmailRecognizer(), theirs.CreditCardRecognizer(), theirs.IbanRecognizer(), theirs.UsSsnRecognizer(),
             theirs.PhoneRecognizer(), theirs.IpRecognizer()]  # fmt: skip
    clean = (SENTENCE * 30)[:2048]
    things = " ann@example.com 4111 1111 1111 1111 536-22-1234 "
    announced = " her NPI is 1234567893, and her PESEL 44051401359 "
    names = sorted({d.recognizer for d in DETECTORS if d.recognizer})
    more = [getattr(theirs, name)() for name in names]
    for title, text, asked in (
        ("clean", clean, peers),
        ("with three findings", clean[:1000] + things + clean[1000 + len(things) :], peers),
        ("with two that words announce", clean[:1000] + announced + clean[1000 + len(announced) :], [*peers, *more]),
    ):
        ours = each_us(lambda text=text: scanner.scan(text), 3000)
        cpu = each_us(lambda text=text: scanner.scan(text), 3000, time.process_time)
        least = min(each_us(lambda text=text: scanner.scan(text), 1) for _ in range(1000))
        peer = each_us(lambda text=text, asked=asked: [p.analyze(text, p.supported_entities, None) for p in asked], 50)  # type: ignore[misc]
        print(f"guardrails, 2 KB {title:27} {ours:8.1f} us   CPU {cpu:8.1f} us   least {least:8.1f} us", end="   ")
        print(f"Presidio {peer:9.1f} us   ratio {peer / ours:6.0f}")


def neighbours() -> None:
    """Small checks of one tenant at 100 per second, while another sends texts of 1 MB: the effect on their p99."""
    from kit.identity import Tokens

    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "issuer")
        tokens = Tokens(cluster.project(Path(folder) / "tokens", "router", "guardrails"))
        port, rpc_port = free_port(), free_port()
        announced = {"SERVICE_PORT": str(port), "SERVICE_RPC_PORT": str(rpc_port), "SERVICE_HOST": "127.0.0.1",
                "SERVICE_ISSUER": cluster.url, "SERVICE_ISSUER_FOLDER": str(cluster.folder),
                "SERVICE_CALLERS": json.dumps([f"{NAMESPACE}/router"])}  # fmt: skip
        path = ":".join(str(SOURCES / name / "src") for name in SERVICES)
        with (Path(folder) / "log").open("wb") as log:
            environment = {**os.environ, **announced, "PYTHONPATH": path}
            command = [sys.executable, "-m", "guardrails"]
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            asyncio.run(_neighbours(f"127.0.0.1:{rpc_port}", tokens))
        finally:
            server.terminate()
            server.wait()
            cluster.stop()


async def _neighbours(target: str, tokens: Any) -> None:
    from cogniforge.guardrails.v1 import guardrails_pb2 as messages
    from cogniforge.guardrails.v1 import guardrails_pb2_grpc as service
    from kit import rpc

    large = {
        "prose": (SENTENCE * 11_000)[: 2**20],
        "findings": ("mail ann@example.com or call +49 30 901820, " * 25_000)[: 2**20],
    }
    async with rpc.channel(target) as channel, rpc.channel(target) as other:
        small: Any = service.GuardrailsServiceStub(rpc.Identified(channel, "guardrails", tokens))
        large_ones: Any = service.GuardrailsServiceStub(rpc.Identified(other, "guardrails", tokens))
        ask = messages.CheckRequest(tenant="b", texts=["mail ann@example.com now"])
        first = messages.CheckRequest(tenant="a", texts=[large["prose"]])
        latest = time.perf_counter() + 120
        while True:  # until the server and its worker are ready
            try:
                started = time.perf_counter()
                await large_ones.Check(first, timeout=60)
                if time.perf_counter() - started < 1:
                    break
            except grpc.aio.AioRpcError:
                if time.perf_counter() > latest:
                    raise
                await asyncio.sleep(0.2)

        async def p99_ms(seconds: float) -> float:
            times: list[float] = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                started = time.perf_counter()
                await small.Check(ask, timeout=60)
                times.append((time.perf_counter() - started) * 1000)
                await asyncio.sleep(0.01)
            return sorted(times)[int(len(times) * 0.99)]

        async def again(text: str) -> None:
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):  # texts that take too long are refused
                    await large_ones.Check(messages.CheckRequest(tenant="a", texts=[text]), timeout=60)

        for title, text in large.items():
            quiet, loud = [], []
            for _ in range(3):  # alternating, so that both have equal conditions
                quiet.append(await p99_ms(4))
                noise = asyncio.create_task(again(text))
                loud.append(await p99_ms(4))
                noise.cancel()
                await asyncio.sleep(2)
            alone, beside = statistics.median(quiet), statistics.median(loud)
            print(
                f"guardrails, small checks beside 1 MB of {title:9} p99 {alone:6.1f} ms alone, {beside:6.1f} ms beside"
            )


async def _clients(vectors: Any, texts: list[list[str]]) -> float:
    started = time.perf_counter()
    await asyncio.gather(*(vectors.of(some) for some in texts))
    return time.perf_counter() - started


def embeddings() -> None:
    """2,048 texts of 8 to 60 words from 512 clients, compared with ideal batches of the same texts."""
    from embeddings.batching import MAX_BATCH_TOKENS, Batcher
    from embeddings.engine import Engine, shortened
    from embeddings.export import export
    from embeddings.vectors import Vectors
    from kit.cache import Cache
    from kit.settings import ServiceSettings

    rng = np.random.default_rng(1)
    words = SENTENCE.split()
    texts = [" ".join(rng.choice(words, rng.integers(8, 60))) + f" {n}" for n in range(2048)]
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder))
        engine = Engine(Path(folder), 2)
    tokens = sorted((shortened(ids) for ids in engine.tokens(texts)), key=len)
    batches: list[list[list[int]]] = [[]]
    for ids in tokens:
        if (len(batches[-1]) + 1) * len(ids) > MAX_BATCH_TOKENS:
            batches.append([])
        batches[-1].append(ids)
    engine.run(batches[0])

    async def through() -> float:
        batcher = Batcher(engine.run)
        running = asyncio.create_task(batcher.run())
        vectors = Vectors(engine, batcher, Cache(ServiceSettings()))
        seconds = await _clients(vectors, [texts[i : i + 4] for i in range(0, len(texts), 4)])
        running.cancel()
        return seconds

    total = sum(map(len, tokens))
    offline, served = [], []
    for _ in range(3):  # alternating, so that both have equal conditions
        started = time.perf_counter()
        for batch in batches:
            engine.run(batch)
        offline.append(total / (time.perf_counter() - started))
        served.append(total / asyncio.run(through()))
    best, ours = statistics.median(offline), statistics.median(served)
    print(f"embeddings, 512 clients {ours:10,.0f} tokens/s   engine alone {best:10,.0f}   share {ours / best:5.2f}")


def retriever() -> None:
    """Clustered vectors, like those of real passages, since texts have topics."""
    from retriever.engines import Point, Scope
    from retriever.engines.pgvector import PgVector

    rng = np.random.default_rng(2)
    topics = rng.normal(size=(2000, 384))
    rows = topics[rng.integers(0, 2000, ROWS)] + rng.normal(scale=0.6, size=(ROWS, 384))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    asked = topics[rng.integers(0, 2000, QUERIES)] + rng.normal(scale=0.6, size=(QUERIES, 384))
    asked = (asked / np.linalg.norm(asked, axis=1, keepdims=True)).astype(np.float32)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder) / "data", 5599)
        server.folder.mkdir()
        server.start()
        try:
            _retrieve(server, rows, asked, PgVector, Point, Scope)
        finally:
            server.kill()


def _retrieve(server: PostgresServer, rows: Any, asked: Any, engine: Any, point: Any, scope: Any) -> None:
    from retriever.__main__ import RetrieverSettings

    settings = RetrieverSettings(**server.make_database("retriever"))  # type: ignore[arg-type]
    server.make_collection()
    with psycopg.connect(server.url("retriever"), autocommit=True) as connection:
        started = time.perf_counter()
        with connection.cursor().copy(
            "COPY vectors.documents (id, tenant, document, readers, content, attributes, embedding) FROM STDIN"
        ) as copy:
            for number, row in enumerate(rows):
                vector = "[" + ",".join(f"{x:.6g}" for x in row) + "]"
                copy.write_row((str(number), "acme", f"vs_1:{number // 50}", ["*"], f"passage {number}",
                                '{"position": 0, "given": {}}', vector))  # fmt: skip
    server.index_collection("1GB")
    print(f"retriever: {ROWS:,} passages written and indexed in {time.perf_counter() - started:.0f} s")
    migrate.migrate("retriever", settings.database(pooled=False))
    exact = np.argsort(-(asked @ rows.T), axis=1)[:, :WANTED]

    async def search() -> tuple[list[float], list[float]]:
        database = Database(settings)
        await database.open()
        found, times, recalls = engine(database, "documents"), [], []
        where = scope("acme", "vs_1", ("*",))
        for query, wanted in zip(asked, exact, strict=True):
            started = time.perf_counter()
            hits = await found.near(where, query, WANTED)
            times.append((time.perf_counter() - started) * 1000)
            recalls.append(len({int(hit.id) for hit in hits} & set(wanted.tolist())) / WANTED)
        await database.close()
        return times, recalls

    asyncio.run(search())  # loads the index into memory
    times, recalls = asyncio.run(search())
    with psycopg.connect(server.url("retriever")) as connection:
        connection.execute("SET enable_indexscan = off")
        started = time.perf_counter()
        for query in asked[:5]:
            text = "[" + ",".join(f"{x:.6g}" for x in query) + "]"
            connection.execute(
                "SELECT id FROM vectors.documents ORDER BY embedding <=> %s::vector LIMIT 10", (text,)
            ).fetchall()
        scan = (time.perf_counter() - started) / 5 * 1000
    p50, p99 = statistics.median(times), sorted(times)[int(len(times) * 0.99)]
    print(
        f"retriever, {ROWS:,} x 384: recall@10 {statistics.mean(recalls):.3f}, p50 {p50:.2f} ms, p99 {p99:.2f} ms; "
        f"exact search {scan:.0f} ms, ratio {scan / p50:.0f}"
    )


def identity() -> None:
    """Time of the callee's check of a known token, parsed anew for each call, and of the caller's lookup of its own."""
    from kit.identity import Callers, Issuer, Tokens

    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder) / "issuer")
        tokens = Tokens(cluster.project(Path(folder) / "tokens", "router", "guardrails"))
        callers = Callers("guardrails", [f"{NAMESPACE}/router"], issuer := Issuer(cluster.url, cluster.folder))
        assert asyncio.run(issuer.renew())
        ((_, token),) = tokens.metadata("guardrails")
        fresh = iter([cluster.token("router", "guardrails") for _ in range(101)])
        verified = each_us(lambda: asyncio.run(callers.admit(next(fresh))), 100, time.process_time)
        asyncio.run(callers.admit(token))
        brought = iter(["".join(list(token)) for _ in range(20_001)])
        known = each_us(lambda: callers.known(next(brought)), 20_000, time.process_time)
        sent = each_us(lambda: tokens.metadata("guardrails"), 20_000, time.process_time)
        cluster.stop()
    print(f"identity, CPU: a known token {known:.2f} us, one's own {sent:.2f} us; verified anew {verified:.0f} us")


PARTS = {
    "guardrails": guardrails,
    "neighbours": neighbours,
    "embeddings": embeddings,
    "retriever": retriever,
    "identity": identity,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
