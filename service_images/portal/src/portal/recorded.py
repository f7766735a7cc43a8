"""Spans and log lines of a request, from the platform's Jaeger and its store of log lines, for operators.

Clients may choose the trace IDs of their requests, so a tenant's reader could ask for the trace of another tenant.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kit import strict_json
from kit.ledger import spans

from portal.servers import Server

MOST_TRACES, MOST_SPANS, MOST_LINES, LONGEST_LINE = 3, 100, 100, 500
"""What a page shows at most: traces, spans and lines of each, and characters of a line. So it stays below 200 KB."""
_TRACE = re.compile("[0-9a-f]{32}")
_AROUND = timedelta(hours=1)
"""How long before and after a request its lines are searched: it may last, and the clock of a node may be wrong."""
_DEEPEST = 8
"""Deepest indentation of a span."""
TRACE_FIELD, SERVICE_FIELD, LEVEL_FIELD, TEXT_FIELD = "trace_id", "service.name", "level", "_msg"
"""Fields of the lines in the store, as the collector writes them. Source: components/observability/log_pipeline.py."""


@dataclass(frozen=True)
class Recorded:
    """Spans or lines of a trace."""

    rows: Sequence[dict[str, Any]] = ()
    left_out: int = 0
    problem: str = ""
    """Why there are none; empty if the server has answered."""


@dataclass(frozen=True)
class TraceOf:
    """What the servers know about a trace. None: the environment does not run the server."""

    spans: Recorded | None
    lines: Recorded | None


class Recorder:
    """Jaeger and the store of log lines."""

    def __init__(self, jaeger: Server, store: Server) -> None:
        self.jaeger, self.store = jaeger, store

    async def of(self, lives: Sequence[dict[str, Any]]) -> dict[str, TraceOf]:
        """By trace: its spans and lines, of the first `MOST_TRACES` traces of these requests."""
        times: dict[str, str] = {}
        for one in lives:
            if _TRACE.fullmatch(str(one.get("trace", ""))):
                times.setdefault(one["trace"], str(one.get("time") or ""))
        asked = list(times.items())[:MOST_TRACES]
        found = await asyncio.gather(*(self._trace(trace, time) for trace, time in asked))
        return {trace: one for (trace, _), one in zip(asked, found, strict=True)}

    async def _trace(self, trace: str, time: str) -> TraceOf:
        return TraceOf(*await asyncio.gather(self._spans(trace), self._lines(trace, time)))

    async def _spans(self, trace: str) -> Recorded | None:
        if not self.jaeger.on:
            return None
        heard = await self.jaeger.ask(f"/api/traces/{trace}", missing={"data": []})
        if heard.problem:
            return Recorded(problem=heard.problem)
        try:
            rows = spans.read(heard.content)
        except ValueError:
            return Recorded(problem="Jaeger's answer has an unknown form.")
        whole = max((row["begun_ms"] + row["duration_ms"] for row in rows), default=0.0)
        shown = [{**row, **_placed(row, whole)} for row in rows[:MOST_SPANS]]
        return Recorded(shown, len(rows) - len(shown))

    async def _lines(self, trace: str, time: str) -> Recorded | None:
        if not self.store.on:
            return None
        heard = await self.store.ask("/select/logsql/query", _query(trace, time))
        if heard.problem:
            return Recorded(problem=heard.problem)
        try:
            rows = sorted((_line(text) for text in filter(None, heard.text.split("\n"))), key=lambda row: row["time"])
        except (AttributeError, KeyError, RecursionError, ValueError):
            return Recorded(problem="The log store's answer has an unknown form.")
        return Recorded(rows[-MOST_LINES:], max(0, len(rows) - MOST_LINES))


def _placed(row: dict[str, Any], whole: float) -> dict[str, Any]:
    """Where a span's bar is drawn, in per cent of the trace's time, and how far its name is indented."""
    begin = 100 * row["begun_ms"] / whole if whole else 0.0
    width = 100 * row["duration_ms"] / whole if whole else 100.0
    least = 0.5  # so that a short span is seen, at the end, too
    return {
        "begin": round(min(begin, 100 - least), 1),
        "width": round(max(width, least), 1),
        "indent": min(row["depth"], _DEEPEST),
    }


def _query(trace: str, time: str) -> dict[str, str]:
    """Parameters of LogsQL. Without a known time, the whole store is searched. One more line tells that some are left
    out."""
    asked = {"query": f'{TRACE_FIELD}:="{trace}"', "limit": str(MOST_LINES + 1)}
    try:
        at = datetime.fromisoformat(time).astimezone(UTC)
    except (ValueError, OverflowError):
        return asked
    return {**asked, "start": (at - _AROUND).isoformat(), "end": (at + _AROUND).isoformat()}


def _line(text: str) -> dict[str, Any]:
    """A line of the store: time, service, level, and its message with its other fields."""
    found: dict[str, Any] = json.loads(text)
    shown = _readable(str(found.get(TEXT_FIELD, "")))
    return {
        "time": str(found["_time"]),
        "service": str(found.get(SERVICE_FIELD, "")),
        "level": str(found.get(LEVEL_FIELD, "")),
        "text": shown[:LONGEST_LINE],
        "cut": len(shown) > LONGEST_LINE,
    }


def _readable(text: str) -> str:
    """A line of a service as its message with the other fields; another line as it is."""
    try:
        fields: Any = strict_json.loads(text.encode())
    except strict_json.BadJson:
        return text
    if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
        return text
    known = ("message", "level", "timestamp", TRACE_FIELD, "span_id")
    more = {name: value for name, value in fields.items() if name not in known}
    return " ".join((fields["message"], *(f"{name}={_plain(value)}" for name, value in more.items())))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
