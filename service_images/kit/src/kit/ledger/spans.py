"""Spans of a trace, as Jaeger's query API gives them (`GET /api/traces/{trace}`)."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
DEEPEST = 50
"""Depth of a span beyond which spans around it are not counted."""


def read(answer: Json) -> list[Json]:
    """The spans in the order of their beginning: service, name, begun_ms, duration_ms, depth, failed.

    `begun_ms`: milliseconds after the first span; `depth`: number of recorded spans around it, at most
    `DEEPEST`. Raises ValueError for an answer of another form.
    """
    try:
        return _read(answer)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"Jaeger's answer has an unknown form: {type(error).__name__}") from None


def _read(answer: Json) -> list[Json]:
    traces = answer.get("data") or []
    if not traces or not traces[0]["spans"]:
        return []
    spans: dict[str, Json] = {span["spanID"]: span for span in traces[0]["spans"]}
    processes: Json = traces[0]["processes"]
    first = min(span["startTime"] for span in spans.values())
    return [
        {
            "service": str(processes[span["processID"]]["serviceName"]),
            "name": str(span["operationName"]),
            "begun_ms": (span["startTime"] - first) / 1000,
            "duration_ms": span["duration"] / 1000,
            "depth": _depth(span, spans),
            "failed": any(tag["key"] == "error" and tag["value"] is True for tag in span.get("tags") or ()),
        }
        for span in sorted(spans.values(), key=lambda span: (span["startTime"], span["spanID"]))
    ]


def _depth(span: Json, spans: dict[str, Json]) -> int:
    """Number of recorded spans around a span. A parent that is not recorded, or a circle, ends the count."""
    around: set[str] = set()
    while len(around) < DEEPEST and (parent := _parent(span)) in spans and parent not in around:
        around.add(parent)
        span = spans[parent]
    return len(around)


def _parent(span: Json) -> str:
    return next((one["spanID"] for one in span.get("references") or () if one["refType"] == "CHILD_OF"), "")
