"""Vectors of texts: from memory, from the shared cache, or from the model."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum

import numpy as np
from kit import genai
from kit.cache import Cache
from kit.errors import ApiError, ErrorType
from kit.telemetry import REGISTRY
from prometheus_client import Counter

from embeddings.batching import Batcher, Overloaded
from embeddings.engine import DIMENSION, MAX_TOKENS, MODEL, Engine, Vector, pieces, shortened

KEPT = 20_000
"""Number of vectors in memory, which take 30 MB."""
SPLIT_TOKENS = 8192
"""Most tokens of a text that is split. Source: OpenAI's API reference, "Create embeddings", limit of an input."""
KEPT_S = 86_400
"""Time to live in the shared cache, in seconds."""
_FOUND = Counter("embeddings_vectors_total", "Vectors given, by where they came from.", ["source"], registry=REGISTRY)


class Long(Enum):
    """Handling of texts beyond the model's limit (`MAX_TOKENS`)."""

    SPLIT = "split"
    """The vector is the mean of the parts' vectors, weighted by length. The limit is `SPLIT_TOKENS`."""
    REFUSE = "refuse"
    CUT = "cut"
    """Only the beginning is embedded, for callers that request it."""


class Vectors:
    """Caches in front of batcher and engine."""

    def __init__(self, engine: Engine, batcher: Batcher, cache: Cache) -> None:
        self._engine, self._batcher, self._cache = engine, batcher, cache
        self._kept: OrderedDict[str, Vector] = OrderedDict()

    async def of(self, texts: Sequence[str], *, long: Long = Long.SPLIT) -> tuple[list[Vector], int]:
        """(one vector of length one per text, number of tokens).

        Raises ApiError: 413 for a text beyond the limit of `long`, 429 if the queue is full.
        """
        wanted = {genai.EMBEDDINGS_DIMENSION_COUNT: DIMENSION}
        with genai.span("embeddings", MODEL, wanted, model=MODEL) as span:
            vectors, count = await self._of(texts, long)
            genai.used(span, count)
            return vectors, count

    async def _of(self, texts: Sequence[str], long: Long) -> tuple[list[Vector], int]:
        tokens = await asyncio.to_thread(self._engine.tokens, texts) if len(texts) > 8 else self._engine.tokens(texts)
        most = {Long.SPLIT: SPLIT_TOKENS, Long.REFUSE: MAX_TOKENS}.get(long)
        longest = max(map(len, tokens))
        if most is not None and longest > most:
            message = f"A text has {longest} tokens of {MODEL}; the limit is {most}. Split the text."
            raise ApiError(413, message, param="input", code="text_too_long")
        parts = [[shortened(ids)] if long is Long.CUT else pieces(ids) for ids in tokens]
        found = await self._each([part for own in parts for part in own])
        vectors: list[Vector] = []
        for own in parts:
            lengths = [len(part) - 2 for part in own]
            made, found = found[: len(own)], found[len(own) :]
            vectors.append(made[0] if len(own) == 1 else _mean(made, lengths))
        return vectors, sum(len(part) for own in parts for part in own)

    async def _each(self, tokens: Sequence[list[int]]) -> list[Vector]:
        """One vector per text, all within the model's limit."""
        keys = [hashlib.blake2b(np.array(ids, np.int32).tobytes(), digest_size=16).hexdigest() for ids in tokens]
        found = {key: vector for key in keys if (vector := self._kept.get(key)) is not None}
        _FOUND.labels("memory").inc(len(found))
        for key in found:
            self._kept.move_to_end(key)
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            found |= await self._fetch(missing, dict(zip(keys, tokens, strict=True)))
        return [found[key] for key in keys]

    async def _fetch(self, missing: list[str], tokens: dict[str, list[int]]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        shared = await self._cache.get(*(f"{MODEL}:{key}" for key in missing))
        for key, content in zip(missing, shared, strict=True):
            if content is not None:
                found[key] = np.frombuffer(content, "<f4")
        _FOUND.labels("cache").inc(len(found))
        made = [key for key in missing if key not in found]
        if made:
            try:
                vectors = await self._batcher.embed([tokens[key] for key in made])
            except Overloaded:
                raise ApiError(
                    429, "The queue is full. Try again later.", ErrorType.RATE_LIMIT, code="overloaded"
                ) from None
            fresh = dict(zip(made, vectors, strict=True))
            _FOUND.labels("model").inc(len(fresh))
            await self._cache.put({f"{MODEL}:{k}": v.astype("<f4").tobytes() for k, v in fresh.items()}, KEPT_S)
            found |= fresh
        for key, vector in found.items():
            self._kept[key] = vector
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found


def _mean(vectors: Sequence[Vector], weights: Sequence[int]) -> Vector:
    """Weighted mean, of length one. Source: OpenAI Cookbook, "Embedding texts that are longer than the model's context
    length"."""
    mean = np.average(np.stack(vectors), axis=0, weights=weights).astype(np.float32)
    length = float(np.linalg.norm(mean))
    return mean / length if length else mean
