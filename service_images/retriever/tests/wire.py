"""Doubles of engines that cannot run here: in memory, with the protocol and filters of the originals."""

from __future__ import annotations

import json
import re
import urllib.parse
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
        """Evaluate a Milvus expression as Python, which is similar; comparisons with missing numbers are false."""
        python = re.sub(r'numbers\[("[^"]*")\] ([<>]=?) (\S+?)(?=[) ]|$)', r"_order(numbers, \1, '\2', \3)", expression)
        python = python.replace("array_contains_any(pairs,", "_any(pairs,").replace(
            "array_contains_any(readers,", "_any(readers,"
        )
        return bool(eval(python or "True", {"__builtins__": {}, "_any": _any, "_order": _order}, dict(row)))


def _any(there: list[str], wanted: list[str]) -> bool:
    return bool(set(there) & set(wanted))


def _order(numbers: Row, key: str, operator: str, value: float) -> bool:
    pairs = {">": "__gt__", ">=": "__ge__", "<": "__lt__", "<=": "__le__"}
    return key in numbers and getattr(numbers[key], pairs[operator])(value)
