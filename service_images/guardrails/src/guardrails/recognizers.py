"""Presidio's recognizers, for what words say: Hyperscan finds the words, and only then Presidio is asked what follows.

They know the forms and check digits of identifiers of many countries. Each sees a window of a few words, never a whole
text: some of Presidio's expressions take time that grows with the square of what they are given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import re2

FROM, WINDOW = 60, 100
"""Characters after the words in which an identifier begins, and is looked for."""
BUDGET = 256
"""How often Presidio is asked about a text. In the rest, whatever has the digits of an identifier is one."""
SURE = 0.05
"""Presidio's score from which on the words before decide; those below are for what would fit nearly anything."""
_DIGITS = 4
_LONGEST = 18
TRIES = 12
"""Groupings of a window that Presidio is asked about."""
_ROW = re2.compile(r"[A-Za-z0-9]{1,12}(?:[ .\-/_]{1,3}[A-Za-z0-9]{1,12})+")
_WORD = re2.compile(r"[A-Za-z0-9]+")
_ANY = re2.compile(r"\b[A-Za-z0-9](?:[./ -]?[A-Za-z0-9]){4,20}\b")


class NotLoaded(Exception):
    """Presidio is needed, and still being loaded."""


class Recognizers:
    """Used by one thread at a time. Presidio takes more than a second to load: it is, once it is needed, or before."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are Presidio's."""
        self.asked = 0
        """How often Presidio has been asked."""
        self._names = sorted(set(names))
        self._known: dict[str, Any] = {}
        self._later = False

    def twin(self) -> Recognizers:
        """For another thread, in which it may be loaded."""
        other = copy.copy(self)
        other._later = False
        return other

    def load_later(self) -> None:
        """Until `load` has been called, `spans` raises NotLoaded where it needs Presidio."""
        self._later = not self._known

    def load(self) -> None:
        """Load it; in any thread."""
        from presidio_analyzer import predefined_recognizers

        self._known = {name: getattr(predefined_recognizers, name)() for name in self._names}
        self._later = False

    def spans(self, name: str, text: str, after: int) -> list[tuple[int, int]]:
        """What a recognizer finds after the words that end at `after`."""
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
        """An identifier in groups, as issuers print it and people write it: found without what is between them."""
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
        """Whatever could be an identifier behind words: for who writes more of these than anybody would."""
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
