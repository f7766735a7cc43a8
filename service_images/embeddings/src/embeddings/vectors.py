"""Vectors of texts: from memory, from the cache that replicas share, or from the model."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from kit import telemetry
from kit.cache import Cache
from kit.errors import ApiError, ErrorType
from kit.telemetry import REGISTRY
from prometheus_client import Counter

from embeddings.batching import Batcher, Overloaded
from embeddings.engine import DIMENSION, MAX_TOKENS, MODEL, Engine, Vector, shortened

KEPT = 20_000
"""Vectors in memory: 30 MB."""
KEPT_S = 86_400
"""In the shared cache."""
_FOUND = Counter("embeddings_vectors_total", "Vectors given, by where they came from.", ["source"], registry=REGISTRY)


class Vectors:
    """In front of batcher and engine."""

    def __init__(self, engine: Engine, batcher: Batcher, cache: Cache) -> None:
        self._engine, self._batcher, self._cache = engine, batcher, cache
        self._kept: OrderedDict[str, Vector] = OrderedDict()

    async def of(self, texts: Sequence[str], *, truncate: bool = True) -> tuple[list[Vector], int]:
        """A vector of length one for each text, and how many tokens they have. Raises ApiError."""
        wanted = {"gen_ai.request.model": MODEL, "gen_ai.embeddings.dimension.count": DIMENSION}
        with telemetry.genai("embeddings", MODEL, wanted) as span:
            vectors, count = await self._of(texts, truncate)
            span.set_attribute("gen_ai.usage.input_tokens", count)
            return vectors, count

    async def _of(self, texts: Sequence[str], truncate: bool) -> tuple[list[Vector], int]:
        tokens = await asyncio.to_thread(self._engine.tokens, texts) if len(texts) > 8 else self._engine.tokens(texts)
        if not truncate and (longest := max(map(len, tokens))) > MAX_TOKENS:
            raise ApiError(413, f"A text has {longest} tokens; the model takes {MAX_TOKENS}.", code="text_too_long")
        tokens = [shortened(ids) for ids in tokens]
        keys = [hashlib.blake2b(np.array(ids, np.int32).tobytes(), digest_size=16).hexdigest() for ids in tokens]
        found = {key: vector for key in keys if (vector := self._kept.get(key)) is not None}
        _FOUND.labels("memory").inc(len(found))
        for key in found:
            self._kept.move_to_end(key)
        if missing := [key for key in dict.fromkeys(keys) if key not in found]:
            found |= await self._fetch(missing, dict(zip(keys, tokens, strict=True)))
        return [found[key] for key in keys], sum(map(len, tokens))

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
                    429, "Too much waits already; come later.", ErrorType.RATE_LIMIT, code="overloaded"
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
