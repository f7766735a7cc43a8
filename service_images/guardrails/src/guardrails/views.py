"""Texts as detectors read them, with the place of each character in the text as it was sent.

A `View` is a text made from another: folded, decoded, or otherwise rewritten. Its spans translate back, so that what is
found is reported and redacted where the caller wrote it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

Change = tuple[int, int, str]
"""Start and end in a view, and what stands there in the next view."""


@dataclass(frozen=True, slots=True)
class View:
    """A text, and for each of its characters where its source begins and ends; None: at the same place."""

    text: str
    starts: array[int] | None = None
    ends: array[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place of a non-empty span in the source."""
        if self.starts is None or self.ends is None:
            return start, end
        # Where the text runs backwards, the source of the last character comes first.
        first, last = self.starts[start], self.ends[end - 1]
        if first < last:
            return first, last
        return min(self.starts[start:end]), max(self.ends[start:end])

    def changed(self, changes: Iterable[Change]) -> View:
        """The view in which each change, in order and apart, has been made."""
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
        """The view in which a span runs backwards."""
        text = self.text[:start] + self.text[start:end][::-1] + self.text[end:]
        order = [*range(start), *range(end - 1, start - 1, -1), *range(end, len(self.text))]
        spans = [self.span(place, place + 1) for place in order]
        return View(text, array("I", (first for first, _ in spans)), array("I", (last for _, last in spans)))

    def same_length(self, text: str) -> View:
        """The view with another text of the same length, character by character."""
        return View(text, self.starts, self.ends)
