"""Graphs of Prometheus' values over time, as SVG: lines, their names, and the values that a table shows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from portal import numbers

WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _ABOVE, _BELOW = 8, 8, 22, 20
MOST_LINES = 8
"""Lines of a graph: each has a colour and a pattern of its own. Those with the highest values are drawn."""
LONGEST_NAME = 120
_LABEL = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

Point = tuple[float, float]
"""Seconds since 1970, and a value."""


@dataclass(frozen=True)
class Series:
    """Values over time."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Line:
    """A drawn series with its values in the unit of the graph."""

    name: str
    path: str
    """Path of SVG; a gap begins where values are missing."""
    last: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class Graph:
    """A graph in a box of `WIDTH` by `HEIGHT`."""

    lines: tuple[Line, ...]
    left_out: int
    """Number of series that are not drawn."""
    top: str
    """Value at the upper end."""
    bottom: str
    """Value at the lower end."""
    width: int = WIDTH
    height: int = HEIGHT
    base: int = HEIGHT - _BELOW
    roof: int = _ABOVE


def series(content: Any, legend: str) -> list[Series]:
    """Series of an answer to a range query. Raises ValueError for an answer of another form."""
    try:
        return [Series(_name(one["metric"], legend), _points(one["values"])) for one in content["data"]["result"]]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError("Prometheus' answer has an unknown form") from None


def _name(labels: dict[str, Any], legend: str) -> str:
    named = _LABEL.sub(lambda found: str(labels.get(found[1], "")), legend).strip()
    return named[:LONGEST_NAME] or "value"


def _points(values: Iterable[Sequence[Any]]) -> list[Point]:
    """Finite values only: a quotient of zeros is NaN, and a quantile beyond the last bucket +Inf."""
    read = ((float(at), float(value)) for at, value in values)
    return [(at, value) for at, value in read if math.isfinite(value)]


def graph(found: Iterable[Series], unit: str, begin: float, end: float, step: float) -> Graph:
    """The series between two times. The axis begins at zero, except if values are below it."""
    there = sorted((one for one in found if one.points), key=lambda one: -max(value for _, value in one.points))
    drawn = sorted(there[:MOST_LINES], key=lambda one: one.name)
    values = [value for one in drawn for _, value in one.points]
    low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
    if low == high:
        high = low + 1.0
    lines = tuple(
        Line(
            one.name,
            _path(one.points, begin, end, step, low, high),
            *(numbers.measure(value, unit) for value in _summary(one.points)),
        )
        for one in drawn
    )
    return Graph(lines, len(there) - len(drawn), numbers.measure(high, unit), numbers.measure(low, unit))


def _summary(points: Sequence[Point]) -> tuple[float, float, float]:
    values = [value for _, value in points]
    return values[-1], min(values), max(values)


def _path(points: Sequence[Point], begin: float, end: float, step: float, low: float, high: float) -> str:
    across = (WIDTH - _LEFT - _RIGHT) / (end - begin)
    # As shares of the largest: the difference of two large values overflows, and so does one by a subnormal value.
    largest = max(high, -low)
    bottom = low / largest
    tall = (HEIGHT - _ABOVE - _BELOW) / (high / largest - bottom)
    pieces: list[str] = []
    before = -math.inf
    for at, value in points:
        x = _LEFT + (min(max(at, begin), end) - begin) * across
        y = HEIGHT - _BELOW - (value / largest - bottom) * tall
        pieces.append(f"{'L' if at - before <= 1.5 * step else 'M'}{x:.0f} {y:.1f}")
        if at - before > 1.5 * step:
            pieces.append("h.1")  # one value alone is a dot
        before = at
    return "".join(pieces)
