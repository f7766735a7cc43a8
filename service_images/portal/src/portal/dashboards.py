"""Dashboards: graphs of the platform's Prometheus, one board on a page, for operators."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from kit.errors import ApiError, missing
from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal import graphs, servers
from portal.boards import Board, BoardPanel
from portal.servers import Heard, Server
from portal.view import PREFIX, Views, Visit

PATH = f"{PREFIX}/dashboards"
SPANS = {1: "hour", 6: "6 hours", 24: "day", 168: "week"}
"""Hours that a page shows, with their names."""
STEPS = {1: 60, 6: 300, 24: 1200, 168: 7200}
"""Seconds between two points, by hours: 60 to 84 points."""
RATE_S = 120
"""Shortest range of a rate in seconds: at least four scrapes."""
MOST_QUERIES = 30
"""Queries that one page sends at most. Panels beyond it name the limit."""
_AT_ONCE = 4
_MOST_BYTES = 2 * 2**20
_SHOWN = 60_000
"""Characters of an answer that a page shows."""


class Shown(Model):
    """What the page shows."""

    board: str = Field(default="", max_length=100, pattern="^[a-z0-9-]*$", description="Name of the board")
    hours: int = Field(default=6, description="Hours until now: 1, 6, 24 or 168")


class Source(Shown):
    """Query of a graph."""

    panel: int = Field(ge=0, le=1000, description="Number of the graph on the board, from 0")
    query: int = Field(ge=0, le=1000, description="Number of the graph's query, from 0")


@dataclass(frozen=True)
class Drawn:
    """A graph with what is written beside it."""

    panel: BoardPanel
    graph: graphs.Graph | None
    problems: Sequence[str]
    queries: Sequence[tuple[str, str]]
    """(PromQL, address of the page that shows its answer)."""


@dataclass(frozen=True)
class Window:
    """The time that graphs show, in seconds since 1970."""

    begin: int
    end: int
    step: int

    @property
    def ticks(self) -> list[str]:
        """Times at the beginning, in the middle and at the end, in UTC."""
        form = "%Y-%m-%d %H:%M" if self.end - self.begin > 86400 else "%H:%M"
        return [time.strftime(form, time.gmtime(at)) for at in (self.begin, (self.begin + self.end) // 2, self.end)]


class Dashboards:
    """The pages."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """A board; the first one if none is named."""
        shown: Shown = visit.call.query
        _check(shown.hours)
        boards, server = self._boards(visit), self._views.servers.prometheus
        board = _board(boards, shown.board) if shown.board else next(iter(boards), None)
        window = _window(shown.hours)
        drawn = await _drawn(server, board, shown.hours, window) if board and server.on else []
        return await self._views.show(
            visit,
            "dashboards.html",
            on=server.on,
            board=board,
            folders=_folders(boards),
            hours=shown.hours,
            spans=SPANS,
            window=window,
            drawn=drawn,
        )

    async def query(self, visit: Visit) -> Response:
        """A query of a graph, and what Prometheus answers to it. No other query is sent."""
        asked: Source = visit.call.query
        _check(asked.hours)
        board, server = _board(self._boards(visit), asked.board), self._views.servers.prometheus
        if not server.on or asked.panel >= len(board.panels):
            raise missing("graph")
        panel = board.panels[asked.panel]
        if asked.query >= len(panel.queries):
            raise missing("query")
        path = _path(panel.queries[asked.query].query, _window(asked.hours))
        heard = await server.ask(path, most_bytes=_MOST_BYTES)
        text = heard.text if heard.content is None else json.dumps(heard.content, indent=1, ensure_ascii=False)
        return await self._views.show(
            visit,
            "dashboard-query.html",
            board=board,
            panel=panel,
            text=text[:_SHOWN],
            cut=len(text) > _SHOWN,
            problem=heard.problem,
            url=server.url + path,
            promql=_promql(panel.queries[asked.query].query, STEPS[asked.hours]),
            hours=asked.hours,
        )

    def _boards(self, visit: Visit) -> Sequence[Board]:
        """Graphs are about all tenants' parts, so others than operators get none."""
        return self._views.settings.boards if visit.session.operator else ()


def _check(hours: int) -> None:
    if hours not in SPANS:
        raise ApiError(400, f"hours: it is one of {', '.join(map(str, SPANS))}", param="hours")


def _board(boards: Sequence[Board], name: str) -> Board:
    found = next((board for board in boards if board.name == name), None)
    if found is None:
        raise missing("board")
    return found


def _folders(boards: Sequence[Board]) -> dict[str, list[Board]]:
    found: dict[str, list[Board]] = {}
    for board in boards:
        found.setdefault(board.folder, []).append(board)
    return found


def _window(hours: int) -> Window:
    """The hours until now. Both ends are multiples of the step, so that a page that is opened again shows the same."""
    step = STEPS[hours]
    end = int(time.time()) // step * step + step
    return Window(end - hours * 3600, end, step)


def _promql(query: str, step: int) -> str:
    return query.replace("$__rate_interval", f"{max(step, RATE_S)}s")


def _path(query: str, window: Window) -> str:
    given = {"query": _promql(query, window.step), "start": window.begin, "end": window.end, "step": window.step}
    return f"/api/v1/query_range?{urlencode({**given, 'timeout': f'{servers.ANSWER_S:g}s'})}"


async def _drawn(server: Server, board: Board, hours: int, window: Window) -> list[Drawn]:
    """The graphs of a board. Together they wait no longer than for one answer."""
    places = [(p, q) for p, panel in enumerate(board.panels) for q in range(len(panel.queries))][:MOST_QUERIES]
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(panel: int, query: int) -> Heard:
        async with turn:
            path = _path(board.panels[panel].queries[query].query, window)
            return await server.ask(path, most_bytes=_MOST_BYTES)

    tasks = {place: asyncio.create_task(ask(*place)) for place in places}
    if tasks:
        await asyncio.wait(tasks.values(), timeout=servers.ANSWER_S)
    heard = {place: _ended(server, task) for place, task in tasks.items()}
    return [_panel(board, number, hours, window, heard) for number in range(len(board.panels))]


def _ended(server: Server, task: asyncio.Task[Heard]) -> Heard:
    if task.done():
        return task.result()
    task.cancel()
    limit = f"within {servers.ANSWER_S:g} seconds"
    return Heard(problem=f"{server.title} has not answered all queries of the page {limit}.")


def _panel(board: Board, number: int, hours: int, window: Window, heard: dict[tuple[int, int], Heard]) -> Drawn:
    """A graph with the answers that there are, and why others are missing."""
    panel, found, problems = board.panels[number], list[graphs.Series](), dict[str, None]()
    for index, query in enumerate(panel.queries):
        answer = heard.get((number, index))
        if answer is None:
            problems[f"A page sends at most {MOST_QUERIES} queries; this graph has no part in them."] = None
        elif answer.problem:
            problems[answer.problem] = None
        else:
            try:
                found += graphs.series(answer.content, query.legend)
            except ValueError as error:
                problems[f"{error}."] = None
    made = graphs.graph(found, panel.unit, window.begin, window.end, window.step) if found else None
    queries = [(_promql(query.query, window.step), _source(board, number, index, hours))
               for index, query in enumerate(panel.queries)]  # fmt: skip
    return Drawn(panel, made if made and made.lines else None, list(problems), queries)


def _source(board: Board, panel: int, query: int, hours: int) -> str:
    return f"{PATH}/query?{urlencode({'board': board.name, 'panel': panel, 'query': query, 'hours': hours})}"
