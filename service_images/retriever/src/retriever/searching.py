"""Searches by vector, by keywords, or both, restricted to what the caller may read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import grpc
from cogniforge.user.v1 import user_pb2 as messages
from cogniforge.user.v1 import user_pb2_grpc as service
from kit import directory, genai, rpc
from kit.directory import Grant
from kit.errors import unavailable

from retriever.embedding import Embedder
from retriever.engines import EVERYBODY, Engine, Hit, Scope
from retriever.models import Ranking
from retriever.reading import characters

RRF_K = 60
"""Constant of reciprocal rank fusion. Source: Cormack, Clarke, Buettcher, SIGIR 2009."""
WIDTH = 4
"""Candidates per list for each requested result."""
RERANKED = 24
"""Reranked passages, at least the requested number. Each takes as long as embedding it."""
_KNOWN_S = 1.0
_TIMEOUT_S = 3.0


def fuse(*lists: Sequence[Hit], limit: int) -> list[Hit]:
    """Merge result lists by reciprocal rank. Scores do not change."""
    places: dict[str, float] = {}
    hits: dict[str, Hit] = {}
    for found in lists:
        for place, hit in enumerate(found):
            places[hit.id] = places.get(hit.id, 0.0) + 1 / (RRF_K + place + 1)
            hits.setdefault(hit.id, hit)
    return [hits[name] for name in sorted(places, key=lambda name: (-places[name], name))[:limit]]


class Readers:
    """Reader names of a caller: the user, the user's teams, and everybody."""

    def __init__(self, user: str) -> None:
        """`user`: host:port of the User service; empty means that there are no teams."""
        self._client = rpc.Client("user", user, service.UserServiceStub) if user else None
        self._known: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def of(self, caller: Grant, key: str) -> tuple[str, ...] | None:
        """Reader names; None if the caller may read everything of the tenant. Raises ApiError(503)."""
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
        """The caller's teams, requested with the caller's own key. Raises ApiError(503)."""
        if self._client is None:
            return []
        asked = messages.ListObjectsRequest(
            tenant=caller.tenant, subject=f"user:{caller.user}", relation="member", type="team"
        )
        answer = await self._ask(self._client.stub.ListObjects, asked, key)
        return list(answer.objects)

    async def viewed(self, caller: Grant, key: str) -> list[str]:
        """IDs of files to which the caller has the relation `viewer`. Raises ApiError(503)."""
        if self._client is None or not caller.user:
            return []
        asked = messages.ListObjectsRequest(
            tenant=caller.tenant, subject=f"user:{caller.user}", relation="viewer", type="file"
        )
        answer = await self._ask(self._client.stub.ListObjects, asked, key)
        return [name.removeprefix("file:") for name in answer.objects]

    async def related(self, caller: Grant, key: str, relation: str, to: str) -> bool:
        """Whether the caller has a relation to an object. Raises ApiError(503)."""
        if self._client is None or not caller.user:
            return False
        asked = messages.CheckRequest(tenant=caller.tenant, object=to, relation=relation, subject=f"user:{caller.user}")
        return bool((await self._ask(self._client.stub.Check, asked, key)).allowed)

    @staticmethod
    async def _ask(method: Any, request: Any, key: str) -> Any:
        metadata = (*rpc.carried(), ("authorization", f"Bearer {key}"))
        try:
            return await method(request, timeout=_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError:
            # Without an answer of User, access is denied.
            raise unavailable("User") from None


class Searching:
    """Searches in one engine."""

    def __init__(self, engine: Engine, embedder: Embedder) -> None:
        self._engine, self._embedder = engine, embedder

    async def search(self, scope: Scope, queries: Sequence[str] | str, limit: int, ranking: Ranking) -> list[Hit]:
        """Results, best first, with scores that are comparable between queries.

        A score is the cosine of query and passage, from 0 (unrelated) to 1 (identical), for any ranking. With `rerank`,
        it is the relevance of the passage; with several queries, the highest score.
        """
        asked = [characters.normal(query) for query in ((queries,) if isinstance(queries, str) else queries)]
        source = {genai.DATA_SOURCE_ID: scope.store, genai.REQUEST_TOP_K: limit}
        with genai.span("retrieval", ranking.ranker, source):
            wanted = min(limit * WIDTH, max(limit, RERANKED)) if ranking.rerank else limit
            vectors = await self._embedder.embed(asked)
            lists = await asyncio.gather(
                *(
                    self._ordered(scope, query, vector, wanted, ranking)
                    for query, vector in zip(asked, vectors, strict=True)
                )
            )
            found = lists[0] if len(lists) == 1 else _merged(lists)
            return [hit for hit in found if hit.score >= ranking.score_threshold][:limit]

    async def _ordered(self, scope: Scope, query: str, vector: Any, limit: int, ranking: Ranking) -> list[Hit]:
        found = await self._found(scope, query, vector, limit, ranking.ranker)
        return await self._reranked(query, found) if ranking.rerank else found

    async def _found(self, scope: Scope, query: str, vector: Any, limit: int, ranker: str) -> list[Hit]:
        if ranker == "words":
            found = await self._engine.worded(scope, query, limit, vector)
        elif ranker == "dense":
            found = await self._engine.near(scope, vector, limit)
        else:
            wide = limit * WIDTH
            lists = await asyncio.gather(
                self._engine.near(scope, vector, wide), self._engine.worded(scope, query, wide, vector)
            )
            found = fuse(*lists, limit=limit)
        return [replace(hit, score=max(0.0, min(1.0, hit.score))) for hit in found]

    async def _reranked(self, query: str, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        scores = await self._embedder.rerank(query, [hit.content for hit in hits])
        rescored = [replace(hit, score=max(0.0, min(1.0, s))) for hit, s in zip(hits, scores, strict=True)]
        return sorted(rescored, key=lambda hit: (-hit.score, hit.id))


def _merged(lists: Sequence[Sequence[Hit]]) -> list[Hit]:
    """Merge the result lists of several queries; each passage keeps its best score."""
    best: dict[str, Hit] = {}
    for hit in (hit for found in lists for hit in found):
        if hit.id not in best or best[hit.id].score < hit.score:
            best[hit.id] = hit
    return [best[hit.id] for hit in fuse(*lists, limit=len(best))]
