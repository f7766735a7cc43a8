"""Presidio's recognizers, for what words say: Hyperscan finds the words, and only then Presidio is asked what follows.

They know the forms and check digits of identifiers of many countries. Each sees a window of a few words, never a whole
text: some of Presidio's expressions take time that grows with the square of what they are given.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

FROM, WINDOW = 60, 100
"""Characters after the words in which an identifier begins, and is looked for."""
BUDGET = 256
"""Windows of a text that Presidio is asked about. In the rest, whatever has the digits of an identifier is one."""
SURE = 0.05
"""Presidio's score from which on the words before decide; those below are for what would fit nearly anything."""
_DIGITS = 4
_ANY = re2.compile(r"\b[A-Za-z0-9](?:[./ -]?[A-Za-z0-9]){4,20}\b")


class Recognizers:
    """Made once, which takes a second; used by one thread at a time."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are Presidio's."""
        wanted = sorted(set(names))
        if not wanted:
            self._known = {}
            return
        from presidio_analyzer import predefined_recognizers  # large: not for who only wants the other detectors

        self._known = {name: getattr(predefined_recognizers, name)() for name in wanted}

    def spans(self, name: str, text: str, after: int) -> list[tuple[int, int]]:
        """What a recognizer finds after the words that end at `after`."""
        window = text[after : after + WINDOW]
        if sum(map(str.isdigit, window)) < _DIGITS:
            return []
        recognizer = self._known[name]
        results = recognizer.analyze(window, recognizer.supported_entities, None) or []
        return [
            (after + r.start, after + r.end)
            for r in results
            if r.score >= SURE and r.start <= FROM and sum(map(str.isdigit, window[r.start : r.end])) >= _DIGITS
        ]

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
