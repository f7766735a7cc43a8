"""Presidio's recognizers for identifiers with announcing words: Hyperscan finds the words, then Presidio checks the
text after them.

The recognizers know formats and check digits of many countries. They see a window of a few words instead of a whole
text, since some of Presidio's expressions take quadratic time.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import re2

FROM, WINDOW = 60, 100
"""Number of characters after the words in which an identifier may begin, and that are searched."""
BUDGET = 256
"""Most calls of Presidio per text. In the rest, everything with enough digits counts as an identifier."""
SURE = 0.05
"""Least score of Presidio at which the announcing words decide. Lower scores belong to very general patterns."""
_DIGITS = 4
_LONGEST = 18
TRIES = 12
"""Most groupings of a window that Presidio checks."""
_ROW = re2.compile(r"[A-Za-z0-9]{1,12}(?:[ .\-/_]{1,3}[A-Za-z0-9]{1,12})+")
_WORD = re2.compile(r"[A-Za-z0-9]+")
_ANY = re2.compile(r"\b[A-Za-z0-9](?:[./ -]?[A-Za-z0-9]){4,20}\b")


class NotLoaded(Exception):
    """Presidio is needed, but not loaded yet."""


class Recognizers:
    """Used by one thread at a time. Presidio is loaded at the first use or before, which takes more than a second."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names`: class names of Presidio's recognizers."""
        self.asked = 0
        """Number of calls of Presidio."""
        self._names = sorted(set(names))
        self._known: dict[str, Any] = {}
        self._later = False

    def twin(self) -> Recognizers:
        """A copy for another thread, in which it may be loaded."""
        other = copy.copy(self)
        other._later = False
        return other

    def load_later(self) -> None:
        """Until `load` has been called, `spans` raises NotLoaded if it needs Presidio."""
        self._later = not self._known

    def load(self) -> None:
        """Load Presidio. Can be called in any thread."""
        from presidio_analyzer import predefined_recognizers

        self._known = {name: getattr(predefined_recognizers, name)() for name in self._names}
        self._later = False

    def spans(self, name: str, text: str, after: int) -> list[tuple[int, int]]:
        """Findings of a recognizer after the words that end at `after`."""
        window = text[after : after + WINDOW]
        if sum(map(str.isdigit, window)) < _DIGITS:
            return []
        found = [
            (start, end)
            for start, end in self._asked(name, window)
            if start <= FROM and sum(map(str.isdigit, window[start:end])) >= _DIGITS
        ]
        return [(after + start, after + end) for start, end in found or self._grouped(name, window)]

    def _asked(self, name: str, text: str) -> list[tuple[int, int]]:
        if not self._known:
            if self._later:
                raise NotLoaded
            self.load()
        self.asked += 1
        recognizer = self._known[name]
        results = recognizer.analyze(text, recognizer.supported_entities, None) or []
        return [(result.start, result.end) for result in results if result.score >= SURE]

    def _grouped(self, name: str, window: str) -> list[tuple[int, int]]:
        """Findings in a window without the separators between groups."""
        tries = TRIES
        for match in _ROW.finditer(window):
            groups = [group.span() for group in _WORD.finditer(window, *match.span())]
            for first, (start, _) in enumerate(groups):
                for last in range(len(groups) - 1, first, -1):
                    compact = "".join(window[a:b] for a, b in groups[first : last + 1])
                    if len(compact) > _LONGEST or sum(map(str.isdigit, compact)) < _DIGITS:
                        continue
                    if start > FROM or not tries:
                        return []
                    tries -= 1
                    if (0, len(compact)) in self._asked(name, compact):
                        return [(start, groups[last][1])]
        return []

    def any(self, text: str, afters: list[int]) -> list[tuple[int, int]]:
        """Possible identifiers after announcing words, for texts with an unusual number of these."""
        found: list[tuple[int, int]] = []
        begin = end = 0
        for after in [*afters, len(text) + WINDOW]:
            if after > end:
                found += [(begin + start, begin + last) for start, last in _tokens(text[begin:end])]
                begin = after
            end = min(after + WINDOW, len(text))
        return found


def _tokens(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _ANY.finditer(text) if sum(map(str.isdigit, match[0])) >= _DIGITS]
