"""Passages in Weaviate, by its REST and GraphQL APIs; meaning and words (BM25) are both its own.

Source of the wire: Weaviate 1.30, REST `/v1/schema`, `/v1/batch/objects`, `/v1/graphql`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from retriever.engines import Hit, Point, Scope, Where
from retriever.engines.http import Api
from retriever.filters import Comparison, Compound

_SPACE = uuid.UUID("6f1d2b8e-6a4c-4d7e-9a53-5d1f0c6b7a10")
_FIELDS = "point document position content attributes"
_OPERATORS = {
    "eq": "Equal",
    "ne": "NotEqual",
    "gt": "GreaterThan",
    "gte": "GreaterThanEqual",
    "lt": "LessThan",
    "lte": "LessThanEqual",
}


class Weaviate:
    """One class of objects. Attributes that filters name are properties `a_<key>`, made by Weaviate as they come."""

    def __init__(self, url: str, key: str, collection: str, http: httpx.AsyncClient | None = None) -> None:
        self._api = Api(url, {"authorization": f"Bearer {key}"} if key else {}, http)
        self._class = collection.replace("-", "_").capitalize()

    async def prepare(self, dimension: int) -> None:
        """Make the class, if it is not there."""
        if await self._api.call("GET", f"/v1/schema/{self._class}", missing=True) is not None:
            return
        exact = {"dataType": ["text"], "tokenization": "field"}
        properties = [
            *({"name": name, **exact} for name in ("point", "tenant", "store", "document")),
            {"name": "readers", "dataType": ["text[]"], "tokenization": "field"},
            {"name": "position", "dataType": ["int"]},
            {"name": "content", "dataType": ["text"], "tokenization": "word"},
            {"name": "attributes", "dataType": ["text"], "indexSearchable": False, "indexFilterable": False},
        ]
        index = {"distance": "cosine", "efConstruction": 128, "maxConnections": 16}
        body = {"class": self._class, "vectorizer": "none", "vectorIndexConfig": index, "properties": properties}
        await self._api.call("POST", "/v1/schema", body)

    async def upsert(self, points: Sequence[Point]) -> None:
        """Each under an id that follows from its own."""
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
                    **{_property(key): value for key, value in point.attributes.items()},
                },
            }
            for point in points
        ]
        for entry in await self._api.call("POST", "/v1/batch/objects", {"objects": objects}):
            errors = (entry.get("result") or {}).get("errors")
            if errors:
                raise self._api.refused(json.dumps(errors)[:300])

    async def delete(self, tenant: str, store: str, document: str = "") -> None:
        """By what they belong to."""
        operands = [_equal("tenant", tenant), _equal("store", store)]
        operands += [_equal("document", document)] if document else []
        match = {"class": self._class, "where": {"operator": "And", "operands": operands}}
        await self._api.call("DELETE", "/v1/batch/objects", {"match": match})

    async def near(self, scope: Scope, vector: Any, limit: int) -> list[Hit]:
        """By cosine."""
        numbers = ", ".join(f"{float(number):.8g}" for number in vector)
        found = await self._get(scope, f"nearVector: {{vector: [{numbers}]}}", limit, "distance")
        return [_hit(row, 1 - float(row["_additional"]["distance"])) for row in found]

    async def worded(self, scope: Scope, query: str, limit: int) -> list[Hit]:
        """By BM25."""
        asked = f'bm25: {{query: {json.dumps(query)}, properties: ["content"]}}'
        found = await self._get(scope, asked, limit, "score")
        return [_hit(row, float(row["_additional"]["score"])) for row in found]

    async def _get(self, scope: Scope, asked: str, limit: int, additional: str) -> list[Any]:
        query = (
            f"{{Get {{{self._class}({asked}, limit: {limit}, where: {_graphql(_where_of(scope))}) "
            f"{{{_FIELDS} _additional {{{additional}}}}}}}}}"
        )
        answer = await self._api.call("POST", "/v1/graphql", {"query": query})
        if answer.get("errors"):
            raise self._api.refused(json.dumps(answer["errors"])[:300])
        return answer["data"]["Get"][self._class] or []

    async def points(self) -> AsyncIterator[list[Point]]:
        """In order of Weaviate's ids."""
        after = ""
        while True:
            more = f"&after={after}" if after else ""
            answer = await self._api.call("GET", f"/v1/objects?class={self._class}&limit=500&include=vector{more}")
            objects = answer.get("objects") or []
            if not objects:
                return
            yield [_point(entry) for entry in objects]
            after = objects[-1]["id"]

    async def count(self) -> int:
        """Exactly."""
        query = f"{{Aggregate {{{self._class} {{meta {{count}}}}}}}}"
        answer = await self._api.call("POST", "/v1/graphql", {"query": query})
        return int(answer["data"]["Aggregate"][self._class][0]["meta"]["count"])

    async def close(self) -> None:
        """Give connections back."""
        await self._api.close()


def _property(key: str) -> str:
    return "a_" + "".join(letter if letter.isalnum() else f"_{ord(letter):x}_" for letter in key)


def _value(value: Any) -> tuple[str, Any]:
    if isinstance(value, bool):
        return "valueBoolean", value
    return ("valueText", value) if isinstance(value, str) else ("valueNumber", value)


def _equal(path: str, value: Any, operator: str = "Equal") -> dict[str, Any]:
    kind, content = _value(value)
    return {"path": [path], "operator": operator, kind: content}


def _where_of(scope: Scope) -> dict[str, Any]:
    operands = [_equal("tenant", scope.tenant), _equal("store", scope.store)]
    if scope.readers is not None:
        operands.append({"path": ["readers"], "operator": "ContainsAny", "valueText": list(scope.readers)})
    if scope.where is not None:
        operands.append(_where(scope.where))
    return {"operator": "And", "operands": operands}


def _where(wanted: Where) -> dict[str, Any]:
    if isinstance(wanted, Compound):
        return {"operator": wanted.type.capitalize(), "operands": [_where(one) for one in wanted.filters]}
    assert isinstance(wanted, Comparison), "there are two kinds"
    path = _property(wanted.key)
    if wanted.type in ("in", "nin"):
        same = wanted.type == "in"
        operands = [_equal(path, value, "Equal" if same else "NotEqual") for value in wanted.values]
        return {"operator": "Or" if same else "And", "operands": operands}
    return _equal(path, wanted.values[0], _OPERATORS[wanted.type])


def _graphql(where: Any, key: str = "") -> str:
    """As GraphQL writes it: names without quotes, operators as words."""
    if isinstance(where, dict):
        return "{" + ", ".join(f"{name}: {_graphql(value, name)}" for name, value in where.items()) + "}"
    if isinstance(where, list):
        return "[" + ", ".join(_graphql(value) for value in where) + "]"
    return str(where) if key == "operator" else json.dumps(where)


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
