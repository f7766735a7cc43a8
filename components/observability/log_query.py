"""Questions to a store of log lines. Nothing else knows LogsQL of VictoriaLogs, or LogQL of Loki.

A `LogQuery` says which lines are wanted. An engine makes a request of it, and reads lines from the store's answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from components.observability.log_pipeline import CONTAINER, LEVEL, NAMESPACE, POD, SERVICE, STREAM, TENANT, TRACE

MOST_LINES = 5000
"""In one answer. Loki's default limit (max_entries_limit_per_query)."""
_AHEAD = timedelta(days=1)
"""How far after now lines are still wanted: the clock of their node may be wrong."""


@dataclass(frozen=True)
class LogQuery:
    """Which lines are wanted: those for which all of this holds."""

    since: datetime
    """Begin of the time, with a time zone. There is no end: lines of a node whose clock is ahead belong to it."""
    limit: int = 200
    """Most lines; the newest ones. At most `MOST_LINES`."""
    service: str = ""
    tenant: str = ""
    trace: str = ""
    """ID of a trace: 32 hexadecimal digits."""
    grep: str = ""
    """Part of the line's text, as it is: no expression, and case counts."""

    @property
    def texts(self) -> Sequence[str]:
        """What a line has to contain one of: the text, and its form inside JSON, where it differs."""
        return tuple(dict.fromkeys((self.grep, json.dumps(self.grep)[1:-1]))) if self.grep else ()


@dataclass(frozen=True)
class LogLine:
    """A line of the log of a container."""

    time: str
    """When the container wrote it, by its node's clock: RFC 3339, UTC, with nanoseconds."""
    namespace: str
    pod: str
    container: str
    stream: str
    """ "stdout" or "stderr"."""
    text: str
    service: str
    level: str = ""
    tenant: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Request:
    """A request to a store."""

    path: str
    form: Mapping[str, str]
    """Parameters. They may be sent in the body of a POST."""


class Engine(Protocol):
    """A kind of store."""

    def request(self, query: LogQuery, now: datetime) -> Request:
        """The request that asks a question."""
        ...

    def read(self, answer: str) -> Iterator[LogLine]:
        """The lines of an answer, in any order. Raises ValueError for an answer that is none."""
        ...


def merged(lines: Iterable[LogLine]) -> list[LogLine]:
    """Lines by time. A line that the collector sent twice, after it was killed or moved, is there once."""
    return sorted(set(lines), key=lambda line: (line.time, line.namespace, line.pod, line.container, line.text))


def _quoted(text: str) -> str:
    """A string of LogsQL and LogQL. Both take Go's syntax, which the escapes of JSON are a part of."""
    return json.dumps(text, ensure_ascii=False)


class VictoriaLogs:
    """VictoriaLogs, by LogsQL."""

    def query(self, query: LogQuery) -> str:
        """The question in LogsQL."""
        wanted = {SERVICE: query.service, TENANT: query.tenant, TRACE: query.trace}
        conditions = [f"{_quoted(field)}:={_quoted(value)}" for field, value in wanted.items() if value]
        if query.texts:
            # A regular expression is the only filter that knows nothing of words.
            texts = [f"_msg:~{_quoted(re.escape(text))}" for text in query.texts]
            conditions.append(f"({' or '.join(texts)})")
        return " and ".join(conditions) or "*"

    def request(self, query: LogQuery, now: datetime) -> Request:
        """The newest lines, by the parameter `limit`."""
        form = {
            "query": self.query(query),
            "start": query.since.isoformat(),
            "end": (now + _AHEAD).isoformat(),
            "limit": str(query.limit),
        }
        return Request("/select/logsql/query", form)

    def read(self, answer: str) -> Iterator[LogLine]:
        """One JSON object on each line."""
        for text in filter(None, answer.split("\n")):
            found: dict[str, str] = json.loads(text)
            yield LogLine(
                time=_nanoseconds(found["_time"]),
                namespace=found.get(NAMESPACE, ""),
                pod=found.get(POD, ""),
                container=found.get(CONTAINER, ""),
                stream=found.get(STREAM, ""),
                text=found.get("_msg", ""),
                service=found.get(SERVICE, ""),
                level=found.get(LEVEL, ""),
                tenant=found.get(TENANT, ""),
                trace=found.get(TRACE, ""),
            )


class Loki:
    """Loki 3, by LogQL. Loki writes the names of fields with underscores."""

    def __init__(self, namespaces: Sequence[str]) -> None:
        """`namespaces`: those of the platform's pods. A Loki of the cluster has lines of others."""
        self._namespaces = namespaces

    def query(self, query: LogQuery) -> str:
        """The question in LogQL."""
        places = "|".join(re.escape(name) for name in self._namespaces)
        labels = [f"{_label(NAMESPACE)}=~{_quoted(places)}"]
        if query.service:
            labels.append(f"{_label(SERVICE)}={_quoted(query.service)}")
        fields = {TENANT: query.tenant, TRACE: query.trace}
        steps = [f"| {_label(field)}={_quoted(value)}" for field, value in fields.items() if value]
        if query.texts:
            steps.insert(0, f"|= {' or '.join(map(_quoted, query.texts))}")
        return " ".join([f"{{{', '.join(labels)}}}", *steps])

    def request(self, query: LogQuery, now: datetime) -> Request:
        """The newest lines."""
        form = {
            "query": self.query(query),
            "start": query.since.isoformat(),
            "end": (now + _AHEAD).isoformat(),
            "limit": str(query.limit),
            "direction": "backward",
        }
        return Request("/loki/api/v1/query_range", form)

    def read(self, answer: str) -> Iterator[LogLine]:
        """Streams of (time in nanoseconds, text), each with labels and the fields of its lines."""
        data: dict[str, Any] = json.loads(answer)["data"]
        if data["resultType"] != "streams":
            raise ValueError(data["resultType"])
        for stream in data["result"]:
            found: dict[str, str] = stream["stream"]
            for stamp, text, *_ in stream["values"]:
                yield LogLine(
                    time=_from_stamp(int(stamp)),
                    namespace=found.get(_label(NAMESPACE), ""),
                    pod=found.get(_label(POD), ""),
                    container=found.get(_label(CONTAINER), ""),
                    stream=found.get(_label(STREAM), ""),
                    text=text,
                    service=found.get(_label(SERVICE), ""),
                    level=found.get(LEVEL, ""),
                    tenant=found.get(TENANT, ""),
                    trace=found.get(TRACE, ""),
                )


def _label(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _from_stamp(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


def _nanoseconds(time: str) -> str:
    """A time in UTC with all nine digits, so that times sort as texts."""
    whole, _, rest = time.removesuffix("Z").partition(".")
    return f"{whole}.{rest:0<9}Z"
