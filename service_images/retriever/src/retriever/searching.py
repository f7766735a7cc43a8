"""A search: by meaning, by words, or both, within what the caller may see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import grpc
from cogniforge.user.v1 import user_pb2 as messages
from cogniforge.user.v1 import user_pb2_grpc as service
from kit import directory, rpc, telemetry
from kit.directory import Grant
from kit.errors import unavailable

from retriever.embedding import Embedder
from retriever.engines import EVERYBODY, Engine, Hit, Scope
from retriever.models import Ranking

RRF_K = 60
"""Of reciprocal rank fusion. Source: Cormack, Clarke, Buettcher, SIGIR 2009."""
WIDTH = 4
"""Candidates of each list, for one that is wanted."""
RERANKED = 24
"""Passages that are read once more, at least those that are wanted: each takes as long as embedding it."""
_KNOWN_S = 1.0
_TIMEOUT_S = 3.0


def fuse(*lists: Sequence[Hit], limit: int) -> list[Hit]:
    """One list of several, by their places in each; a score of 1 is the first place in all."""
    scores: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for found in lists:
        for place, hit in enumerate(found):
            scores[hit.id] = scores.get(hit.id, 0.0) + 1 / (RRF_K + place + 1)
            hits.setdefault(hit.id, hit)
    best = max(1, len(lists)) / (RRF_K + 1)
    order = sorted(scores, key=lambda name: (-scores[name], name))[:limit]
    return [replace(hits[name], score=min(1.0, scores[name] / best)) for name in order]


class Readers:
    """In whose names a caller reads: their own, their teams', and everybody's."""

    def __init__(self, user: str) -> None:
        """`user` is host:port of the User service; empty: nobody is in a team."""
        self._client = rpc.Client(user, service.UserServiceStub) if user else None
        self._known: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}

    async def close(self) -> None:
        """Give connections back."""
        if self._client is not None:
            await self._client.close()

    async def of(self, caller: Grant, key: str) -> tuple[str, ...] | None:
        """None: everything of the tenant. Raises ApiError(503) where it cannot be found out."""
        if caller.operator or (not caller.user and caller.allows(directory.Scope.MANAGE)):
            return None
        if not caller.user:
            return (EVERYBODY,)
        known = self._known.get((caller.tenant, caller.user))
        if known is not None and time.monotonic() - known[0] < _KNOWN_S:
            return known[1]
        teams = await self.teams(caller, key)
        found = (EVERYBODY, f"user:{caller.user}", *teams)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[caller.tenant, caller.user] = (time.monotonic(), found)
        return found

    async def teams(self, caller: Grant, key: str) -> list[str]:
        """The caller's, asked for with the caller's own key. Raises ApiError(503)."""
        if self._client is None:
            return []
        asked = messages.ListObjectsRequest(
            tenant=caller.tenant, subject=f"user:{caller.user}", relation="member", type="team"
        )
        metadata = (*rpc.carried(), ("authorization", f"Bearer {key}"))
        try:
            answer = await self._client.stub.ListObjects(asked, timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError:
            # Whoever cannot be asked has not said yes.
            raise unavailable("User") from None
        return list(answer.objects)


class Searching:
    """Over one engine."""

    def __init__(self, engine: Engine, embedder: Embedder) -> None:
        self._engine, self._embedder = engine, embedder

    async def search(self, scope: Scope, query: str, limit: int, ranking: Ranking) -> list[Hit]:
        """The best first, scores between 0 and 1."""
        source = {"gen_ai.data_source.id": scope.store, "gen_ai.request.top_k": limit}
        with telemetry.genai("retrieval", ranking.ranker, source):
            if ranking.rerank:
                candidates = await self._search(scope, query, min(limit * WIDTH, max(limit, RERANKED)), ranking.ranker)
                found = (await self._reranked(query, candidates))[:limit]
            else:
                found = await self._search(scope, query, limit, ranking.ranker)
            return [hit for hit in found if hit.score >= ranking.score_threshold]

    async def _reranked(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        scores = await self._embedder.rerank(query, [hit.content for hit in hits])
        rescored = [replace(hit, score=max(0.0, min(1.0, (s + 1) / 2))) for hit, s in zip(hits, scores, strict=True)]
        return sorted(rescored, key=lambda hit: (-hit.score, hit.id))

    async def _search(self, scope: Scope, query: str, limit: int, ranker: str) -> list[Hit]:
        wide = limit * WIDTH
        if ranker == "words":
            found = fuse(await self._engine.worded(scope, query, limit), limit=limit)
        else:
            (vector,) = await self._embedder.embed([query])
            if ranker == "dense":
                near = await self._engine.near(scope, vector, limit)
                found = [replace(hit, score=max(0.0, min(1.0, hit.score))) for hit in near]
            else:
                lists = await asyncio.gather(
                    self._engine.near(scope, vector, wide), self._engine.worded(scope, query, wide)
                )
                found = fuse(*[one for one in lists if one], limit=limit)
        return found
