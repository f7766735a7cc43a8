"""The map as a drawing: places of the boxes and lines, which a template writes as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from portal.health import Health

_WIDE, _TALL, _ROW = 150, 44, 76
_COLUMNS = (16, 226, 436, 646)
"""Left edges of: the gateway, services that the gateway calls, services that only others call, stores."""
WIDTH = 812


@dataclass(frozen=True)
class Box:
    """A box with a name."""

    name: str
    title: str
    x: int
    y: int
    state: str
    """Style of the box: good, bad, unknown or store."""
    said: str
    wide: int = _WIDE
    tall: int = _TALL


@dataclass(frozen=True)
class Line:
    """A line from box to box."""

    path: str
    kind: str
    """Style of the line: asks or stores."""
    title: str


@dataclass(frozen=True)
class Drawing:
    """All boxes and lines."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    height: int
    width: int = WIDTH


def drawn(services: Sequence[Health]) -> Drawing:
    """The drawing of the services with their states."""
    first = [one for one in services if one.part.name == _front(services)]
    others = [one for one in services if one not in first]
    stores = sorted({store for one in services for store in one.part.stores})
    tall = max(len(others), len(stores), 1)
    boxes = {"gateway": Box("gateway", "Gateway", _COLUMNS[0], _middle(tall, 1, 0), "good", "answers")}
    for column, ones in ((_COLUMNS[1], first), (_COLUMNS[2], others)):
        for index, one in enumerate(ones):
            boxes[one.part.name] = Box(
                one.part.name, one.part.title, column, _middle(tall, len(ones), index), _style(one), one.state
            )
    for index, store in enumerate(stores):
        y = _middle(tall, len(stores), index)
        boxes[f"store {store}"] = Box(store, store, _COLUMNS[3], y, "store", "")
    lines = [
        *(_line(boxes["gateway"], boxes[one.part.name], "asks") for one in services if one.part.prefixes),
        *(
            _line(boxes[one.part.name], boxes[asked], "asks")
            for one in services
            for asked in one.part.asks
            if asked in boxes and asked != one.part.name
        ),
        *(
            _line(boxes[one.part.name], boxes[f"store {store}"], "stores")
            for one in services
            for store in one.part.stores
        ),
    ]
    return Drawing(tuple(boxes.values()), tuple(lines), tall * _ROW + 24)


def _front(services: Sequence[Health]) -> str:
    """The service that calls most others stands alone beside the gateway."""
    return max(services, key=lambda one: len(one.part.asks)).part.name if services else ""


def _middle(rows: int, count: int, index: int) -> int:
    """Top of a box, so that the boxes of a column share the height evenly."""
    return round(12 + rows * _ROW * (index + 0.5) / count - _TALL / 2)


def _style(one: Health) -> str:
    return "unknown" if one.good is None else "good" if one.good else "bad"


def _line(start: Box, end: Box, kind: str) -> Line:
    y1, y2 = start.y + _TALL // 2, end.y + _TALL // 2
    title = f"{start.title} to {end.title}"
    if start.x == end.x:  # a bow on the left of the column
        path = f"M {start.x} {y1} C {start.x - 40} {y1}, {end.x - 40} {y2}, {end.x} {y2}"
        return Line(path, kind, title)
    x1, x2 = (start.x + _WIDE, end.x) if start.x < end.x else (start.x, end.x + _WIDE)
    bend = (x2 - x1) // 2
    return Line(f"M {x1} {y1} C {x1 + bend} {y1}, {x2 - bend} {y2}, {x2} {y2}", kind, title)
