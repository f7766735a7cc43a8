"""Passages in Milvus, through its REST API. It has vector search only, so `worded` returns nothing.

Source of the protocol: Milvus 2.6, RESTful API v2, `/v2/vectordb/collections/*`, `/v2/vectordb/entities/*`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from retriever.engines import Hit, Point, Scope, Where
from retriever.engines.http import Api
from retriever.filters import Comparison, Compound, exactly, numbers

_OUTPUT = ["id", "document", "position", "content", "attributes"]
_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_PAGE = 500


class Milvus:
    """One collection, with strong consistency: searches see all earlier writes."""

    def __init__(self, url: str, key: str, collection: str, http: httpx.AsyncClient | None = None) -> None:
        self._api = Api(url, {"authorization": f"Bearer {key}"} if key else {}, http)
        self._collection = collection.replace("-", "_")

    async def _call(self, path: str, body: dict[str, Any]) -> Any:
        """Milvus answers refused requests with 200 and an error code in the body."""
        answer = await self._api.call("POST", f"/v2/vectordb/{path}", {"collectionName": self._collection, **body})
        if answer.get("code") != 0:
            raise self._api.refused(f"{answer.get('code')}: {answer.get('message')}")
        return answer.get("data")

    async def prepare(self, dimension: int) -> None:
        """Create the collection with its index, if it does not exist."""
        if (await self._call("collections/has", {}))["has"]:
            return
        text = {"max_length": 65_535}
        fields: list[dict[str, Any]] = [
            {"fieldName": "id", "dataType": "VarChar", "isPrimary": True, "elementTypeParams": {"max_length": 512}},
            *(
                {"fieldName": n, "dataType": "VarChar", "elementTypeParams": {"max_length": 512}}
                for n in ("tenant", "store", "document")
            ),
            {"fieldName": "position", "dataType": "Int64"},
            {"fieldName": "content", "dataType": "VarChar", "elementTypeParams": text},
            *(
                {
                    "fieldName": name,
                    "dataType": "Array",
                    "elementDataType": "VarChar",
                    "elementTypeParams": {"max_capacity": 100, "max_length": 256},
                }
                for name in ("readers", "pairs")
            ),
            *({"fieldName": name, "dataType": "JSON"} for name in ("attributes", "numbers")),
            {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": dimension}},
        ]
        index = {
            "fieldName": "vector",
            "indexName": "near",
            "metricType": "COSINE",
            "params": {"index_type": "HNSW", "M": 16, "efConstruction": 128},
        }
        await self._call("collections/create", {"schema": {"fields": fields}, "indexParams": [index]})

    async def upsert(self, points: Sequence[Point]) -> None:
        """Writes all points in one call."""
        data = [
            {
                "id": point.id,
                "tenant": point.tenant,
                "store": point.store,
                "document": point.document,
                "position": point.position,
                "content": point.content,
                "readers": list(point.readers),
                "attributes": point.attributes,
                "pairs": [exactly(key, value) for key, value in point.attributes.items()],
                "numbers": numbers(point.attributes),
                "vector": [float(number) for number in point.vector],
            }
            for point in points
        ]
        await self._call("entities/upsert", {"data": data})

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Deletes by a filter on the owner of the points."""
        await self._call("entities/delete", {"filter": _belongs(tenant, store, document)})

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """Nearest by cosine."""
        asked = {
            "data": [[float(number) for number in vector]],
            "annsField": "vector",
            "limit": limit,
            "filter": _filter_of(scope),
            "outputFields": _OUTPUT,
            "consistencyLevel": "Strong",
        }
        return [_hit(row) for row in await self._call("entities/search", asked)]

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Always empty: vector search only."""
        return []

    async def points(self) -> AsyncIterator[list[Point]]:
        """Ordered by ID."""
        after = ""
        while True:
            asked = {
                "filter": f"id > {json.dumps(after)}",
                "outputFields": [*_OUTPUT, "tenant", "store", "readers", "vector"],
                "limit": _PAGE,
                "consistencyLevel": "Strong",
            }
            rows = sorted(await self._call("entities/query", asked), key=lambda row: row["id"])
            if not rows:
                return
            yield [_point(row) for row in rows]
            after = rows[-1]["id"]

    async def count(self) -> int:
        """Exact count."""
        rows = await self._call("entities/query", {"outputFields": ["count(*)"], "consistencyLevel": "Strong"})
        return int(rows[0]["count(*)"])

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _belongs(tenant: str, store: str, document: str = "") -> str:
    parts = [("tenant", tenant), ("store", store), *([("document", document)] if document else [])]
    return " and ".join(f"{name} == {json.dumps(value)}" for name, value in parts)


def _filter_of(scope: Scope) -> str:
    parts = [_belongs(scope.tenant, scope.store)]
    if scope.readers is not None:
        parts.append(f"array_contains_any(readers, {json.dumps(list(scope.readers))})")
    if scope.where is not None:
        parts.append(_filter(scope.where))
    return " and ".join(parts)


def _filter(wanted: Where) -> str:
    if isinstance(wanted, Compound):
        return "(" + f" {wanted.type} ".join(_filter(one) for one in wanted.filters) + ")"
    assert isinstance(wanted, Comparison), "a filter is a Comparison or a Compound"
    if wanted.type in _ORDER:
        value = wanted.values[0]
        if isinstance(value, str | bool):
            return 'id == ""'  # matches nothing: the value has no order
        return f"numbers[{json.dumps(wanted.key)}] {_ORDER[wanted.type]} {float(value)!r}"
    pairs = json.dumps([exactly(wanted.key, value) for value in wanted.values])
    there = f"array_contains_any(pairs, {pairs})"
    return there if wanted.type in ("eq", "in") else f"not {there}"


def _attributes(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


def _hit(row: Any) -> Hit:
    return Hit(
        row["id"], row["document"], row["position"], row["content"], _attributes(row["attributes"]), row["distance"]
    )


def _point(row: Any) -> Point:
    return Point(
        row["id"],
        row["tenant"],
        row["store"],
        row["document"],
        row["position"],
        row["content"],
        row["vector"],
        tuple(row["readers"]),
        _attributes(row["attributes"]),
    )
