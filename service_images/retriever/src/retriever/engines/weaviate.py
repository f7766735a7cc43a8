"""Passages in Weaviate, through its REST and GraphQL APIs. It has vector search and keyword search (BM25).

Source of the protocol: Weaviate 1.35, REST `/v1/schema`, `/v1/batch/objects`, `/v1/graphql`. The filter `ContainsNone`
needs Weaviate 1.33.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import httpx
from kit.errors import ApiError

from retriever.engines import Hit, Point, Scope, Where
from retriever.engines.http import Api
from retriever.filters import Comparison, Compound, Value, exactly, numbers

_OLDEST = (1, 33)
_SPACE = uuid.UUID("6f1d2b8e-6a4c-4d7e-9a53-5d1f0c6b7a10")
_FIELDS = "point document position content attributes"
_ORDER = {"gt": "GreaterThan", "gte": "GreaterThanEqual", "lt": "LessThan", "lte": "LessThanEqual"}
_NOTHING: dict[str, Any] = {"path": ["tenant"], "operator": "Equal", "valueText": "*"}
"""Filter that matches no object."""


class Weaviate:
    """One class of objects.

    An attribute is stored as a text with its key and value. A number is also stored as a property, which has an order.
    """

    def __init__(self, url: str, key: str, collection: str, http: httpx.AsyncClient | None = None) -> None:
        self._api = Api(url, {"authorization": f"Bearer {key}"} if key else {}, http)
        self._class = collection.replace("-", "_").capitalize()
        self._numbers: set[str] = set()
        """Numeric properties that are known to exist."""

    async def prepare(self, dimension: int) -> None:
        """Create the class, if it does not exist."""
        version = str((await self._api.call("GET", "/v1/meta"))["version"])
        found = re.match(r"(\d+)\.(\d+)", version)
        if found is None or (int(found[1]), int(found[2])) < _OLDEST:
            raise self._api.refused(f"the version of Weaviate is {version}; 1.33 or newer is needed")
        if await self._api.call("GET", f"/v1/schema/{self._class}", missing=True) is not None:
            return
        exact = {"dataType": ["text"], "tokenization": "field"}
        properties = [
            *({"name": name, **exact} for name in ("point", "tenant", "store", "document")),
            *({"name": name, "dataType": ["text[]"], "tokenization": "field"} for name in ("readers", "pairs")),
            {"name": "position", "dataType": ["int"]},
            {"name": "content", "dataType": ["text"], "tokenization": "word"},
            {"name": "attributes", "dataType": ["text"], "indexSearchable": False, "indexFilterable": False},
        ]
        index = {"distance": "cosine", "efConstruction": 128, "maxConnections": 16}
        body = {"class": self._class, "vectorizer": "none", "vectorIndexConfig": index, "properties": properties}
        await self._api.call("POST", "/v1/schema", body)

    async def upsert(self, points: Sequence[Point]) -> None:
        """Writes each point under a UUID that is derived from its ID."""
        await self._with_numbers({name for point in points for name in _numbers(point.attributes)})
        objects = [
            {
                "class": self._class,
                "id": str(uuid.uuid5(_SPACE, point.id)),
                "vector": [float(number) for number in point.vector],
                "properties": {
                    "point": point.id,
                    "tenant": point.tenant,
                    "store": point.store,
                    "document": point.document,
                    "readers": list(point.readers),
                    "position": point.position,
                    "content": point.content,
                    "attributes": json.dumps(point.attributes),
                    # Filters ignore an empty list, as if the property did not exist.
                    "pairs": ["*", *(exactly(key, value) for key, value in point.attributes.items())],
                    **_numbers(point.attributes),
                },
            }
            for point in points
        ]
        for entry in await self._api.call("POST", "/v1/batch/objects", {"objects": objects}):
            errors = (entry.get("result") or {}).get("errors")
            if errors:
                raise self._api.refused(json.dumps(errors)[:300])

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """Deletes by a filter on the owner of the points."""
        operands = [_equal("tenant", tenant), _equal("store", store)]
        operands += [_equal("document", document)] if document else []
        match = {"class": self._class, "where": {"operator": "And", "operands": operands}}
        while True:  # one call deletes no more than the server's QUERY_MAXIMUM_RESULTS
            results = (await self._api.call("DELETE", "/v1/batch/objects", {"match": match}))["results"]
            if results["failed"]:
                raise self._api.refused(f"{results['failed']} objects could not be deleted")
            if results["matches"] < results["limit"]:
                return

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """Nearest by cosine."""
        numbers = ", ".join(f"{float(number):.8g}" for number in vector)
        found = await self._get(scope, f"nearVector: {{vector: [{numbers}]}}", limit, "distance")
        return [_hit(row, 1 - float(row["_additional"]["distance"])) for row in found]

    async def worded(self, scope: Scope, query: str, limit: int, vector: Any = None) -> list[Hit]:
        """Ranked by BM25."""
        asked = f'bm25: {{query: {_graphql(query)}, properties: ["content"]}}'
        found = await self._get(scope, asked, limit, "score" if vector is None else "score vector")
        scores = [
            float(row["_additional"]["score"]) if vector is None else _cosine(row["_additional"]["vector"], vector)
            for row in found
        ]
        return [_hit(row, score) for row, score in zip(found, scores, strict=True)]

    async def _get(self, scope: Scope, asked: str, limit: int, additional: str) -> list[Any]:
        where = await self._where_of(scope)
        query = (
            f"{{Get {{{self._class}({asked}, limit: {limit}, where: {_graphql(where)}) "
            f"{{{_FIELDS} _additional {{{additional}}}}}}}}}"
        )
        answer = await self._api.call("POST", "/v1/graphql", {"query": query})
        if answer.get("errors"):
            raise self._api.refused(json.dumps(answer["errors"])[:300])
        return answer["data"]["Get"][self._class] or []

    async def points(self) -> AsyncIterator[list[Point]]:
        """Ordered by Weaviate's UUIDs."""
        after = ""
        while True:
            page = f"/v1/objects?class={self._class}&limit=500&include=vector&after={after}"
            answer = await self._api.call("GET", page)
            objects = answer.get("objects") or []
            if not objects:
                return
            yield [_point(entry) for entry in objects]
            after = objects[-1]["id"]

    async def count(self) -> int:
        """Exact count."""
        query = f"{{Aggregate {{{self._class} {{meta {{count}}}}}}}}"
        answer = await self._api.call("POST", "/v1/graphql", {"query": query})
        return int(answer["data"]["Aggregate"][self._class][0]["meta"]["count"])

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def _with_numbers(self, names: set[str]) -> None:
        """Create missing numeric properties."""
        for name in sorted(await self._unknown(names)):
            try:
                wanted = {"name": name, "dataType": ["number"]}
                await self._api.call("POST", f"/v1/schema/{self._class}/properties", wanted)
            except ApiError:
                if await self._unknown({name}):  # otherwise another replica has created it
                    raise
            self._numbers.add(name)

    async def _unknown(self, names: set[str]) -> set[str]:
        """Names that the class does not have."""
        if not names <= self._numbers:
            there = await self._api.call("GET", f"/v1/schema/{self._class}")
            self._numbers = {one["name"] for one in there["properties"]}
        return names - self._numbers

    async def _where_of(self, scope: Scope) -> dict[str, Any]:
        operands = [_equal("tenant", scope.tenant), _equal("store", scope.store)]
        if scope.readers is not None:
            operands.append({"path": ["readers"], "operator": "ContainsAny", "valueText": list(scope.readers)})
        if scope.where is not None:
            # Weaviate refuses filters on a property that no object ever had.
            unknown = await self._unknown({_number(one.key) for one in _comparisons(scope.where) if one.type in _ORDER})
            operands.append(_where(scope.where, unknown))
        return {"operator": "And", "operands": operands}


def _number(key: str) -> str:
    """Property for an attribute's numbers. The key itself could be too long for Weaviate."""
    return f"n_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _numbers(attributes: dict[str, Value]) -> dict[str, float]:
    return {_number(key): value for key, value in numbers(attributes).items()}


def _equal(path: str, value: str) -> dict[str, Any]:
    return {"path": [path], "operator": "Equal", "valueText": value}


def _comparisons(wanted: Comparison | Compound) -> Iterator[Comparison]:
    if isinstance(wanted, Comparison):
        yield wanted
        return
    for one in wanted.filters:
        yield from _comparisons(one)


def _where(wanted: Where, unknown: set[str]) -> dict[str, Any]:
    if isinstance(wanted, Compound):
        operands = [_where(one, unknown) for one in wanted.filters]
        return {"operator": wanted.type.capitalize(), "operands": operands}
    assert isinstance(wanted, Comparison), "a filter is a Comparison or a Compound"
    if wanted.type in _ORDER:
        name, value = _number(wanted.key), wanted.values[0]
        if name in unknown or isinstance(value, str | bool):
            return _NOTHING
        return {"path": [name], "operator": _ORDER[wanted.type], "valueNumber": float(value)}
    operator = "ContainsAny" if wanted.type in ("eq", "in") else "ContainsNone"
    pairs = [exactly(wanted.key, value) for value in wanted.values]
    return {"path": ["pairs"], "operator": operator, "valueText": pairs}


def _graphql(where: Any, key: str = "") -> str:
    """GraphQL notation: names without quotes, operators as enums, no surrogate pairs in escapes."""
    if isinstance(where, dict):
        return "{" + ", ".join(f"{name}: {_graphql(value, name)}" for name, value in where.items()) + "}"
    if isinstance(where, list):
        return "[" + ", ".join(_graphql(value) for value in where) + "]"
    return str(where) if key == "operator" else json.dumps(where, ensure_ascii=False)


def _cosine(one: Any, other: Any) -> float:
    """Cosine similarity; the vectors need not be normalized."""
    lengths = math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
    return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0


def _hit(row: Any, score: float) -> Hit:
    return Hit(row["point"], row["document"], row["position"], row["content"], json.loads(row["attributes"]), score)


def _point(entry: Any) -> Point:
    own = entry["properties"]
    return Point(
        own["point"],
        own["tenant"],
        own["store"],
        own["document"],
        own["position"],
        own["content"],
        entry["vector"],
        tuple(own["readers"]),
        json.loads(own["attributes"]),
    )
