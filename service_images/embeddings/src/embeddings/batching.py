"""Batches texts of many requests into one run of the model, by tokens, so that all runs take about the same time.

While the model runs, texts queue up. The next run takes the text that has waited longest and as many others of similar
length as fit. A text that is requested several times is run once.
"""

from __future__ import annotations

import asyncio
import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kit import telemetry
from prometheus_client import Counter, Histogram

from embeddings.engine import Vector

MAX_BATCH_TOKENS = 2048
"""Most tokens per run, padding included. More tokens do not increase throughput (measured on 2 cores: 16 x 128 and
32 x 64 are equal)."""
MAX_WAITING_TOKENS = 400_000
"""Most queued tokens, about a minute's work. Requests beyond it are refused."""
_RUNS = Counter("embeddings_runs_total", "Runs of the model.", registry=telemetry.REGISTRY)
_TOKENS = Counter("embeddings_tokens_total", "Tokens that the model has read.", ["kind"], registry=telemetry.REGISTRY)
_SIZE = Histogram(
    "embeddings_batch_texts", "Texts in a run.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256), registry=telemetry.REGISTRY
)


class Overloaded(Exception):
    """The queue is full."""


@dataclass(order=True)
class _Waiting:
    length: int
    number: int
    tokens: tuple[int, ...] = field(compare=False)
    done: asyncio.Future[Vector] = field(compare=False)


class Batcher:
    """Queue in front of one engine."""

    def __init__(self, run: Callable[[Sequence[Sequence[int]]], Vector]) -> None:
        self._run = run
        self._sorted: list[_Waiting] = []
        self._by_tokens: dict[tuple[int, ...], _Waiting] = {}
        self._count = 0
        self._tokens = 0
        self._woken = asyncio.Event()

    async def embed(self, texts: Sequence[Sequence[int]]) -> list[Vector]:
        """One vector per text. Raises Overloaded."""
        if self._tokens + sum(map(len, texts)) > MAX_WAITING_TOKENS and self._tokens:
            raise Overloaded
        return list(await asyncio.gather(*(asyncio.shield(self._add(tuple(tokens)).done) for tokens in texts)))

    def _add(self, tokens: tuple[int, ...]) -> _Waiting:
        known = self._by_tokens.get(tokens)
        if known is not None:
            return known
        self._count += 1
        one = _Waiting(len(tokens), self._count, tokens, asyncio.get_running_loop().create_future())
        self._by_tokens[tokens] = one
        bisect.insort(self._sorted, one)
        self._tokens += one.length
        self._woken.set()
        return one

    async def run(self) -> None:
        """Run batches in an endless loop."""
        while True:
            if not self._sorted:
                self._woken.clear()
                await self._woken.wait()
            # Texts that arrive at this moment join the batch.
            await asyncio.sleep(0)
            batch = self._next()
            longest = batch[-1].length
            tokens = sum(one.length for one in batch)
            _RUNS.inc()
            _SIZE.observe(len(batch))
            _TOKENS.labels("read").inc(tokens)
            _TOKENS.labels("padding").inc(longest * len(batch) - tokens)
            try:
                vectors = await asyncio.to_thread(self._run, [one.tokens for one in batch])
            except Exception as error:
                for one in batch:
                    one.done.set_exception(RuntimeError(f"the model has failed: {error}"))
                    one.done.exception()  # mark as retrieved: there may be no waiter left
            else:
                for one, vector in zip(batch, vectors, strict=True):
                    one.done.set_result(vector)
            finally:
                for one in batch:
                    del self._by_tokens[one.tokens]

    def _next(self) -> list[_Waiting]:
        """The text that has waited longest, and others of similar length, sorted by length."""
        first = min(range(len(self._sorted)), key=lambda place: self._sorted[place].number)
        begin, end = first, first + 1
        while True:
            # A longer text increases the padding of all texts in the batch.
            length = self._sorted[end - 1].length
            if (
                begin > 0
                and length * (end - begin + 1) <= MAX_BATCH_TOKENS
                and self._sorted[begin - 1].length * 2 > length
            ):
                begin -= 1
            elif (
                end < len(self._sorted)
                and self._sorted[end].length * (end - begin + 1) <= MAX_BATCH_TOKENS
                and self._sorted[end].length < 2 * self._sorted[begin].length
            ):
                end += 1
            else:
                break
        batch = self._sorted[begin:end]
        del self._sorted[begin:end]
        self._tokens -= sum(one.length for one in batch)
        return batch
