"""Engines that are not to be had as packages, as far as their wire shows them: in memory, with their own filters."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np

Row = dict[str, Any]


def _near(rows: list[Row], vector: Any, limit: int) -> list[tuple[Row, float]]:
    scored = [(row, float(np.dot(row["vector"], vector))) for row in rows]
    return sorted(scored, key=lambda pair: -pair[1])[:limit]


class PineconeWire:
    """Pinecone's data plane, API 2025-01."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[str, Row]] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        assert request.headers["x-pinecone-api-version"] == "2025-01" and request.headers["api-key"] == "k"
        query = urllib.parse.parse_qs(request.url.query.decode())
        body = json.loads(request.content) if request.content else {}
        space = self.spaces.setdefault(body.get("namespace") or query.get("namespace", [""])[0], {})
        match request.url.path:
            case "/vectors/upsert":
                assert len(body["vectors"]) <= 100
                space |= {vector["id"]: vector for vector in body["vectors"]}
                return httpx.Response(200, json={"upsertedCount": len(body["vectors"])})
            case "/vectors/delete":
                for name in [n for n, v in space.items() if self.passes(body["filter"], v["metadata"])]:
                    del space[name]
                return httpx.Response(200, json={})
            case "/query":
                rows = [
                    {**v, "vector": v["values"]} for v in space.values() if self.passes(body["filter"], v["metadata"])
                ]
                found = _near(rows, body["vector"], body["topK"])
                matches = [{"id": r["id"], "score": s, "metadata": r["metadata"]} for r, s in found]
                return httpx.Response(200, json={"matches": matches})
            case "/vectors/list":
                names = sorted(space)
                start = int(query.get("paginationToken", ["0"])[0])
                page, limit = names[start:], int(query["limit"][0])
                more = {"pagination": {"next": str(start + limit)}} if len(page) > limit else {}
                return httpx.Response(200, json={"vectors": [{"id": n} for n in page[:limit]], **more})
            case "/vectors/fetch":
                return httpx.Response(200, json={"vectors": {n: space[n] for n in query["ids"] if n in space}})
            case "/describe_index_stats":
                spaces = {name: {"vectorCount": len(rows)} for name, rows in self.spaces.items() if rows}
                total = sum(map(len, self.spaces.values()))
                return httpx.Response(200, json={"namespaces": spaces, "dimension": 4, "totalVectorCount": total})
        return httpx.Response(404)

    def passes(self, wanted: Row, metadata: Row) -> bool:
        """Pinecone's filter language."""
        results = []
        for key, value in wanted.items():
            if key in ("$and", "$or"):
                parts = [self.passes(one, metadata) for one in value]
                results.append(all(parts) if key == "$and" else any(parts))
                continue
            ((operator, given),) = value.items()
            there = metadata.get(key)
            many = there if isinstance(there, list) else [there]
            results.append(
                {
                    "$eq": lambda g=given, m=many: any(_same(x, g) for x in m),
                    "$ne": lambda g=given, m=many: not any(_same(x, g) for x in m),
                    "$in": lambda g=given, m=many: any(_same(x, y) for x in m for y in g),
                    "$nin": lambda g=given, m=many: not any(_same(x, y) for x in m for y in g),
                    "$gt": lambda g=given, t=there: _number(t) and t > g,
                    "$gte": lambda g=given, t=there: _number(t) and t >= g,
                    "$lt": lambda g=given, t=there: _number(t) and t < g,
                    "$lte": lambda g=given, t=there: _number(t) and t <= g,
                }[operator]()
            )
        return all(results)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


class MilvusWire:
    """Milvus' RESTful API v2."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        body = json.loads(request.content)
        assert body["collectionName"] == "documents" and request.headers["authorization"] == "Bearer k"
        path = request.url.path.removeprefix("/v2/vectordb/")
        if path == "collections/has":
            return self._say({"has": self.rows is not None})
        if path == "collections/create":
            fields = {field["fieldName"]: field for field in body["schema"]["fields"]}
            assert fields["vector"]["elementTypeParams"] == {"dim": 4} and fields["id"]["isPrimary"]
            self.rows = {}
            return self._say({})
        if self.rows is None:
            return httpx.Response(200, json={"code": 100, "message": "collection not found"})
        kept = [row for row in self.rows.values() if self._passes(body.get("filter", ""), row)]
        match path:
            case "entities/upsert":
                self.rows |= {row["id"]: row for row in body["data"]}
                return self._say({"upsertCount": len(body["data"])})
            case "entities/delete":
                for row in kept:
                    del self.rows[row["id"]]
                return self._say({})
            case "entities/search":
                found = _near(kept, body["data"][0], body["limit"])
                return self._say([{**{n: r[n] for n in body["outputFields"]}, "distance": s} for r, s in found])
            case "entities/query":
                if body["outputFields"] == ["count(*)"]:
                    return self._say([{"count(*)": len(kept)}])
                rows = sorted(kept, key=lambda row: row["id"])[: body["limit"]]
                return self._say([{n: r[n] for n in body["outputFields"]} for r in rows])
        return httpx.Response(404)

    @staticmethod
    def _say(data: Any) -> httpx.Response:
        return httpx.Response(200, json={"code": 0, "data": data})

    @staticmethod
    def _passes(expression: str, row: Row) -> bool:
        """Milvus' expressions are nearly Python's; what a JSON field lacks is equal to nothing."""

        class Attributes:
            def __getitem__(self, key: str) -> Any:
                value = row["attributes"].get(key)
                return _Lenient(value)

        python = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", expression)) or "True"
        names = {name: row[name] for name in ("id", "tenant", "store", "document")}
        contains: Callable[[Any, Any], bool] = lambda _, wanted: bool(set(row["readers"]) & set(wanted))  # noqa: E731
        return bool(
            eval(
                python,
                {"__builtins__": {}},
                {**names, "readers": 0, "attributes": Attributes(), "array_contains_any": contains},
            )
        )


class _Lenient:
    """A JSON value that is compared as Milvus does: never wrongly, and never with an error."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return self._value is not None and _same(self._value, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._value)

    def _order(self, other: Any, compare: Callable[[Any, Any], bool]) -> bool:
        return _number(self._value) and _number(other) and compare(self._value, other)

    def __gt__(self, other: Any) -> bool:
        return self._order(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> bool:
        return self._order(other, lambda a, b: a >= b)

    def __lt__(self, other: Any) -> bool:
        return self._order(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> bool:
        return self._order(other, lambda a, b: a <= b)


class WeaviateWire:
    """Weaviate's REST and GraphQL, as far as they are used."""

    def __init__(self) -> None:
        self.there = False
        self.objects: dict[str, Row] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        assert request.headers["authorization"] == "Bearer k"
        body = json.loads(request.content) if request.content else {}
        match request.method, request.url.path:
            case "GET", "/v1/schema/Documents":
                return httpx.Response(200 if self.there else 404, json={})
            case "POST", "/v1/schema":
                assert body["class"] == "Documents" and body["vectorizer"] == "none"
                self.there = True
                return httpx.Response(200, json=body)
            case "POST", "/v1/batch/objects":
                self.objects |= {entry["id"]: entry for entry in body["objects"]}
                return httpx.Response(200, json=[{"result": {}} for _ in body["objects"]])
            case "DELETE", "/v1/batch/objects":
                where = body["match"]["where"]
                for name in [n for n, o in self.objects.items() if self.passes(where, o["properties"])]:
                    del self.objects[name]
                return httpx.Response(200, json={})
            case "GET", "/v1/objects":
                query = urllib.parse.parse_qs(request.url.query.decode())
                after, limit = query.get("after", [""])[0], int(query["limit"][0])
                page = [self.objects[name] for name in sorted(self.objects) if name > after][:limit]
                return httpx.Response(200, json={"objects": page})
            case "POST", "/v1/graphql":
                return httpx.Response(200, json=self._graphql(body["query"]))
        return httpx.Response(404)

    def _graphql(self, query: str) -> Row:
        if query.startswith("{Aggregate"):
            return {"data": {"Aggregate": {"Documents": [{"meta": {"count": len(self.objects)}}]}}}
        found = re.fullmatch(
            r"\{Get \{Documents\((nearVector|bm25): (\{.*?\}), limit: (\d+), where: (\{.*\})\) "
            r"\{point document position content attributes _additional \{(\w+)\}\}\}\}", query
        )  # fmt: skip
        assert found, query
        kind, asked, limit, where, additional = found.groups()
        wanted, filters = _json(asked), _json(where)
        rows = [{**o, "vector": o["vector"]} for o in self.objects.values() if self.passes(filters, o["properties"])]
        if kind == "nearVector":
            scored = [(row, 1 - score) for row, score in _near(rows, wanted["vector"], int(limit))]
        else:
            words = set(wanted["query"].lower().split())
            counted = [(r, len(words & set(r["properties"]["content"].lower().split()))) for r in rows]
            scored = sorted([(r, float(n)) for r, n in counted if n], key=lambda pair: -pair[1])[: int(limit)]
        shown = [{**row["properties"], "_additional": {additional: str(score)}} for row, score in scored]
        return {"data": {"Get": {"Documents": shown}}}

    def passes(self, where: Row, own: Row) -> bool:
        """Weaviate's where filter."""
        operator = where["operator"]
        if operator in ("And", "Or"):
            results = [self.passes(one, own) for one in where["operands"]]
            return all(results) if operator == "And" else any(results)
        there = own.get(where["path"][0])
        given = next(value for key, value in where.items() if key.startswith("value"))
        if operator == "ContainsAny":
            return bool(set(there or ()) & set(given))
        if operator in ("Equal", "NotEqual"):
            return (there is not None and _same(there, given)) is (operator == "Equal")
        pairs = {"GreaterThan": "__gt__", "GreaterThanEqual": "__ge__", "LessThan": "__lt__", "LessThanEqual": "__le__"}
        return getattr(_Lenient(there), pairs[operator])(given)


def _json(text: str) -> Any:
    """GraphQL's literals as JSON, where no text holds what looks like a name."""
    named = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', text)
    return json.loads(re.sub(r'"operator": (\w+)', r'"operator": "\1"', named))
