"""Rewritten texts for detectors, with the position of each character in the original text.

A `View` is a folded, decoded or otherwise rewritten text. Its spans are translated back, so that findings are reported
and redacted in the original text.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

Change = tuple[int, int, str]
"""(start, end, replacement) of a change."""


@dataclass(frozen=True, slots=True)
class View:
    """A text, and the start and end of each character's source; None if positions are equal."""

    text: str
    starts: array[int] | None = None
    ends: array[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Position of a non-empty span in the source."""
        if self.starts is None or self.ends is None:
            return start, end
        # In a reversed text, the source of the last character comes first.
        first, last = self.starts[start], self.ends[end - 1]
        if first < last:
            return first, last
        return min(self.starts[start:end]), max(self.ends[start:end])

    def changed(self, changes: Iterable[Change]) -> View:
        """View with all changes, which must be sorted and disjoint."""
        pieces: list[str] = []
        starts, ends = array("I"), array("I")
        place = 0
        for start, end, new in chain(changes, ((len(self.text), len(self.text), ""),)):
            if place < start:
                pieces.append(self.text[place:start])
                starts.extend(range(place, start) if self.starts is None else self.starts[place:start])
                ends.extend(range(place + 1, start + 1) if self.ends is None else self.ends[place:start])
            if new:
                first, last = self.span(start, end)
                pieces.append(new)
                starts.extend([first] * len(new))
                ends.extend([last] * len(new))
            place = end
        return View("".join(pieces), starts, ends)

    def reversed(self, start: int, end: int) -> View:
        """View with a reversed span."""
        text = self.text[:start] + self.text[start:end][::-1] + self.text[end:]
        order = [*range(start), *range(end - 1, start - 1, -1), *range(end, len(self.text))]
        spans = [self.span(place, place + 1) for place in order]
        return View(text, array("I", (first for first, _ in spans)), array("I", (last for _, last in spans)))

    def same_length(self, text: str) -> View:
        """View with another text of the same length and the same positions."""
        return View(text, self.starts, self.ends)
