"""Log lines from an environment's store: where the store is, how it is asked, and how lines are shown."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from rich.markup import escape

from cli import cluster, forwarding, jobs, output, stack
from cli.documents import LoggedLine
from components.base import SCRAPER
from components.config.platform import PlatformConfig
from components.config.web import destination, port
from components.observability import log_names
from components.observability.log_query import MOST_LINES, Engine, LogLine, LogQuery, Loki, VictoriaLogs, merged
from local.errors import LocalError

_ANSWER_S = 60
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_OVERLAP = timedelta(seconds=30)
"""How far back a follower asks again, for lines that arrive late."""
_EVERY_S = 1.0


def duration(text: str) -> timedelta:
    """A length of time such as "15m". Raises LocalError for any other text."""
    match = re.fullmatch(r"([1-9]\d{0,5})([smhd])", text)
    if match is None:
        raise LocalError(
            f'--since: "{text}" is no length of time',
            reason="a whole number and one of s, m, h, d; at most 999,999",
            fix="write it like 15m or 2d",
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


@dataclass(frozen=True)
class Store:
    """A store that answers."""

    engine: Engine
    client: httpx.Client

    def lines(self, query: LogQuery) -> list[LogLine]:
        """The newest lines that fit, oldest first. Raises LocalError if the store refuses or does not answer."""
        asked = self.engine.request(query, datetime.now(UTC))
        try:
            answer = self.client.post(asked.path, data=dict(asked.form))
        except httpx.HTTPError as error:
            raise _unanswered(str(error) or type(error).__name__) from None
        if answer.status_code != 200:
            raise _unanswered(f"status {answer.status_code}: {answer.text[:500].strip()}")
        try:
            return merged(self.engine.read(answer.text))[-query.limit :]
        except (ValueError, KeyError) as error:
            raise _unanswered(f"the answer has an unknown form: {type(error).__name__}") from None


def _unanswered(reason: str) -> LocalError:
    return LocalError(
        "the log store does not answer", reason=reason, fix="see `forge status`, or try a shorter --since"
    )


@contextlib.contextmanager
def opened(name: str) -> Iterator[Store]:
    """The store of an environment. Raises LocalError if it has none, or if it cannot be reached."""
    config = stack.read_config(name)
    logs = config.observability.logs
    if logs is None:
        raise LocalError(
            f"{name} has no log store",
            fix="add observability.logs, or leave out --since, --grep, --trace, --tenant and --output",
        )
    base = cluster.kubectl(cluster.is_local(config), config.cluster.context)
    if logs.loki is None:
        headers = {"Authorization": _login(base, log_names.STORE_NAMESPACE, log_names.LOGIN)}
        where = (log_names.STORE_NAMESPACE, log_names.STORE, log_names.PORT)
        with forwarding.forwarded(base, *where) as number, _client(f"http://127.0.0.1:{number}", headers) as client:
            yield Store(VictoriaLogs(), client)
        return
    loki, headers = logs.loki, dict[str, str]()
    if loki.secret_name:
        headers["Authorization"] = _login(base, log_names.COLLECTOR_NAMESPACE, loki.secret_name)
    if loki.tenant:
        headers["X-Scope-OrgID"] = loki.tenant
    engine = Loki(_namespaces(config))
    inside, _ = destination(loki.url)
    if inside is None or loki.url.startswith("https://"):
        with _client(loki.url, headers) as client:
            yield Store(engine, client)
        return
    service = (loki.address.hostname or "").partition(".")[0]
    with (
        forwarding.forwarded(base, inside[0], service, port(loki.url)) as number,
        _client(f"http://127.0.0.1:{number}", headers) as client,
    ):
        yield Store(engine, client)


def _namespaces(config: PlatformConfig) -> list[str]:
    return [config.cluster.namespace, *([SCRAPER[0]] if config.observability.prometheus else [])]


def _client(url: str, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=_ANSWER_S)


def _login(base: Sequence[str], namespace: str, secret: str) -> str:
    """Value of the header Authorization."""
    return jobs.secret([*base, "--namespace", namespace], "log store", secret, "authorization").strip()


def follow(store: Store, query: LogQuery) -> Iterator[LogLine]:
    """Lines as they arrive, without end. A line that arrives late comes late."""
    seen: dict[LogLine, None] = {}
    query = replace(query, limit=MOST_LINES)
    while True:
        for line in store.lines(query):
            if line not in seen:
                seen[line] = None
                yield line
        if seen:
            newest = datetime.fromisoformat(max(line.time for line in seen)[:26] + "+00:00")
            begin = max(query.since, min(newest, datetime.now(UTC)) - _OVERLAP)
            query = replace(query, since=begin)
            stamp = begin.isoformat()
            seen = {line: None for line in seen if line.time[:26] >= stamp[:26]}
        time.sleep(_EVERY_S)


def document(line: LogLine) -> LoggedLine:
    """A line as `--output json` shows it."""
    return LoggedLine(**vars(line))


_COLOURS = {"warning": "yellow", "error": "red", "critical": "red"}
_CONTROL = {number: f"\\x{number:02x}" for number in (*range(9), *range(11, 32), *range(127, 160))}
"""Characters that could change what a terminal shows."""


def show(line: LogLine) -> None:
    """Print a line: time, service, level and text."""
    colour = _COLOURS.get(line.level, "")
    level = f"[{colour}]{line.level}[/] " if colour else f"{line.level} " if line.level else ""
    shown = escape(_readable(line.text).translate(_CONTROL))
    output.line(f"[dim]{line.time[:23].replace('T', ' ')}[/] [bold]{escape(line.service)}[/] {level}{shown}", indent=2)


def _readable(text: str) -> str:
    """A line of a service as its message with the other fields; another line as it is."""
    try:
        fields: Any = json.loads(text)
    except ValueError:
        return text
    if not isinstance(fields, dict) or not isinstance(fields.get("message"), str):
        return text
    more = {name: value for name, value in fields.items() if name not in ("message", "level", "timestamp")}
    plain = (f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in more.items())
    return " ".join((fields["message"], *plain))
