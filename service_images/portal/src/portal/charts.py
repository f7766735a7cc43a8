"""Charts as SVG, drawn here: pages need no scripts for them, and the content security policy allows none in a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640, 160
_BELOW, _ABOVE, _LEFT = 20, 16, 8


@dataclass(frozen=True)
class Bar:
    """One bar."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: float
    shown: str
    """The label below, for some of the bars only."""


@dataclass(frozen=True)
class Bars:
    """A chart of bars in a box of `WIDTH` by `HEIGHT`."""

    title: str
    unit: str
    bars: tuple[Bar, ...]
    most: float
    base: float = HEIGHT - _BELOW
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def total(self) -> float:
        """Sum of the values."""
        return sum(bar.value for bar in self.bars)


def bars(title: str, unit: str, values: Sequence[tuple[str, float]], every: int = 5) -> Bars:
    """Bars for (label, value); every fifth has its label below. The highest value fills the height."""
    most = max((value for _, value in values), default=0.0)
    step = (WIDTH - 2 * _LEFT) / max(len(values), 1)
    found: list[Bar] = []
    for index, (label, value) in enumerate(values):
        tall = (HEIGHT - _BELOW - _ABOVE) * value / most if most > 0 else 0.0
        below = label if index % every == 0 else ""
        x = _LEFT + index * step
        place = (round(x, 1), round(HEIGHT - _BELOW - tall, 1), round(step * 0.72, 1), round(tall, 1))
        found.append(Bar(*place, label, value, below))
    return Bars(title, unit, tuple(found), most)
