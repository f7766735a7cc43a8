"""Passages in Pinecone, through the REST API of its data plane. A dense index has no keyword search.

Source of the protocol: Pinecone API 2025-01, `/vectors/upsert`, `/query`, `/vectors/delete`, `/vectors/list`,
`/vectors/fetch`, `/describe_index_stats`. Tenants are namespaces. Searches see a write some seconds later.
"""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from retriever.engines import Hit, Point, Scope, Where
from retriever.engines.http import Api
from retriever.filters import Comparison, Compound

VERSION = "2025-01"
_BATCH = 100
_PREFIX = "a."


class Pinecone:
    """One index, identified by its host."""

    def __init__(self, url: str, key: str, http: httpx.AsyncClient | None = None) -> None:
        self._api = Api(url, {"api-key": key, "x-pinecone-api-version": VERSION}, http)

    async def prepare(self, dimension: int) -> None:
        """Only checks the index, which must exist to have a host."""
        stats = await self._api.call("POST", "/describe_index_stats", {})
        if stats.get("dimension") not in (None, dimension):
            raise self._api.refused(f"the index has {stats['dimension']} dimensions instead of {dimension}")

    async def upsert(self, points: Sequence[Point]) -> None:
        """Writes batches of 100 points, Pinecone's limit."""
        by_tenant: dict[str, list[Point]] = {}
        for point in points:
            by_tenant.setdefault(point.tenant, []).append(point)
        for tenant, own in by_tenant.items():
            for first in range(0, len(own), _BATCH):
                vectors = [_vector(point) for point in own[first : first + _BATCH]]
                await self._api.call("POST", "/vectors/upsert", {"vectors": vectors, "namespace": tenant})

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Deletes by a filter on the owner of the points."""
        parts = [{"store": {"$eq": store}}, *([{"document": {"$eq": document}}] if document else [])]
        await self._api.call("POST", "/vectors/delete", {"filter": {"$and": parts}, "namespace": tenant}, missing=True)

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """Nearest by the index's metric."""
        asked = {
            "vector": [float(number) for number in vector],
            "topK": limit,
            "namespace": scope.tenant,
            "includeMetadata": True,
            "filter": _filter_of(scope),
        }
        answer = await self._api.call("POST", "/query", asked)
        return [_hit(match) for match in answer.get("matches", [])]

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Empty: a dense index has no keyword search."""
        return []

    async def points(self) -> AsyncIterator[list[Point]]:
        """Ordered by namespace."""
        stats = await self._api.call("POST", "/describe_index_stats", {})
        for tenant in sorted(stats.get("namespaces", {})):
            token = ""
            while True:
                query = {"namespace": tenant, "limit": str(_BATCH), **({"paginationToken": token} if token else {})}
                page = await self._api.call("GET", f"/vectors/list?{urllib.parse.urlencode(query)}")
                names = [entry["id"] for entry in page.get("vectors", [])]
                if names:
                    wanted = urllib.parse.urlencode([*(("ids", name) for name in names), ("namespace", tenant)])
                    found = await self._api.call("GET", f"/vectors/fetch?{wanted}")
                    yield [_point(tenant, found["vectors"][name]) for name in names if name in found["vectors"]]
                token = (page.get("pagination") or {}).get("next", "")
                if not token:
                    break

    async def count(self) -> int:
        """Pinecone's count, some seconds old."""
        stats = await self._api.call("POST", "/describe_index_stats", {})
        return int(stats.get("totalVectorCount", 0))

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _vector(point: Point) -> dict[str, Any]:
    metadata = {
        "store": point.store,
        "document": point.document,
        "position": point.position,
        "content": point.content,
        "readers": list(point.readers),
        "attributes": json.dumps(point.attributes),
        **{_PREFIX + key: value for key, value in point.attributes.items()},
    }
    return {"id": point.id, "values": [float(number) for number in point.vector], "metadata": metadata}


def _filter_of(scope: Scope) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"store": {"$eq": scope.store}}]
    if scope.readers is not None:
        parts.append({"readers": {"$in": list(scope.readers)}})
    if scope.where is not None:
        parts.append(_filter(scope.where))
    return {"$and": parts}


def _filter(wanted: Where) -> dict[str, Any]:
    if isinstance(wanted, Compound):
        return {f"${wanted.type}": [_filter(one) for one in wanted.filters]}
    assert isinstance(wanted, Comparison), "a filter is a Comparison or a Compound"
    value: Any = list(wanted.values) if wanted.type in ("in", "nin") else wanted.values[0]
    return {_PREFIX + wanted.key: {f"${wanted.type}": value}}


def _hit(match: Any) -> Hit:
    own = match["metadata"]
    return Hit(
        match["id"],
        own["document"],
        int(own["position"]),
        own["content"],
        json.loads(own["attributes"]),
        match["score"],
    )


def _point(tenant: str, entry: Any) -> Point:
    own = entry["metadata"]
    return Point(
        entry["id"],
        tenant,
        own["store"],
        own["document"],
        int(own["position"]),
        own["content"],
        entry["values"],
        tuple(own["readers"]),
        json.loads(own["attributes"]),
    )
