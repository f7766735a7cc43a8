"""Runs all detectors: Hyperscan searches for all hints at once, then RE2, checks and Presidio decide."""

from __future__ import annotations

import copy
import itertools
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import re2
from kit.guard_policy import Category

from guardrails.detector import Detector
from guardrails.detectors import DETECTORS
from guardrails.folding import fold, hidden
from guardrails.hints import Hints, Part
from guardrails.injections import INJECTED
from guardrails.readings import READINGS
from guardrails.recognizers import BUDGET, Recognizers
from guardrails.views import View

CONTEXT, AFTER = 60, 24
"""Number of characters before and after a finding that are searched for context words."""
_DEPTH = 2
"""Most levels of readings, so that doubly encoded texts are found."""


class Found(NamedTuple):
    """A finding in a text, with its span."""

    start: int
    end: int
    kind: str
    category: Category
    weight: float = 1.0


_Match = tuple[int, int, Detector]
"""Span of a match and its detector."""


class OutOfTime(Exception):
    """The scan of a text exceeded its time limit."""


def _hint(detector: Detector) -> tuple[Part, str]:
    return detector.part, detector.hint or detector.exact


def expressions(detectors: Sequence[Detector]) -> list[list[str]]:
    """Unique hints by part: those of readings, detectors and their contexts.

    Context words are searched together with the other hints: without them, no further work is needed.
    """
    # The hints of readings are larger and come first: see Part.
    hints = [(one.part, one.hint) for one in READINGS]
    hints += [*map(_hint, detectors), *((Part.WORDS, d.context) for d in detectors if d.context)]
    return [list(dict.fromkeys(hint for of, hint in hints if of is part)) for part in Part]


class Scanner:
    """Scans texts. Created once, and used by one thread at a time."""

    def __init__(self, detectors: Sequence[Detector] = DETECTORS) -> None:
        self._detectors = detectors
        self._exact = [_compiled(d.exact) for d in detectors]
        # Expressions for bytes, whose positions need no translation: in ASCII they equal those of characters.
        self._plain = [_compiled(d.exact.encode()) for d in detectors]
        self._value = [exact.groupindex.get("v", 0) for exact in self._exact]
        self._context = [re2.compile(d.context) if d.context else None for d in detectors]
        parts = expressions(detectors)
        self._hints = Hints(*parts)
        self._recognizers = Recognizers(d.recognizer for d in detectors if d.recognizer)
        numbers = itertools.count()
        number_of = {(part, hint): next(numbers) for part, hints in zip(Part, parts, strict=True) for hint in hints}
        # Detectors without context, by number of their hint. Others, with their hint, by number of their context.
        self._alone: list[list[int]] = [[] for _ in number_of]
        self._under: list[list[tuple[int, int]]] = [[] for _ in number_of]
        for number, d in enumerate(detectors):
            if d.context:
                self._under[number_of[Part.WORDS, d.context]].append((number, number_of[_hint(d)]))
            else:
                self._alone[number_of[_hint(d)]].append(number)
        self._readings = {number_of[one.part, one.hint]: one for one in READINGS}
        self._ask = frozenset(number for number, d in enumerate(detectors) if d.recognizer)
        # Findings with announcing words have precedence over those by format only.
        self._rank = [(not d.context, number) for number, d in enumerate(detectors)]
        self.until = float("inf")
        """Deadline of a scan, by `time.monotonic`."""

    def twin(self) -> Scanner:
        """A copy for another thread. It shares the expressions, which are large."""
        other = copy.copy(self)
        other._hints, other._recognizers = self._hints.twin(), self._recognizers.twin()
        return other

    def load_later(self) -> None:
        """Until `load` has been called, texts that need slow parts raise NotLoaded."""
        self._recognizers.load_later()

    def load(self) -> None:
        """Load the slow parts now instead of at their first use. Can be called in any thread."""
        self._recognizers.load()

    def scan(self, text: str) -> list[Found]:
        """Findings in a text, in order and without overlaps."""
        return settled(self.everything(text))

    def everything(self, text: str) -> list[Found]:
        """All findings in a text, including overlapping ones. Injections count only if their total weight suffices.

        Raises OutOfTime and NotLoaded.
        """
        found: dict[tuple[int, int, str], Found] = {}
        view = View(text)
        folded = fold(view)
        self._look(folded, found)
        # Hidden characters are folded to nothing, so a text whose length does not change contains none.
        if folded.starts is not None:
            for secret in hidden(view):
                self._look(fold(secret), found)
        if not found:
            return []
        sure: dict[str, float] = {}
        for one in found.values():
            if one.category is Category.INJECTION:
                sure[one.kind] = max(one.weight, sure.get(one.kind, 0.0))
        if sure and sum(sure.values()) < INJECTED:
            return [one for one in found.values() if one.category is not Category.INJECTION]
        return list(found.values())

    def _look(
        self, view: View, found: dict[tuple[int, int, str], Found], depth: int = 0, disguise: bool = False
    ) -> None:
        text = view.text
        content = text.encode("utf-8", "surrogatepass")
        there = self._hints.hits(content)
        if not there:
            return
        if depth < _DEPTH and not disguise:
            for number in there:
                if (reading := self._readings.get(number)) is not None:
                    for other in reading.views(view):
                        self._look(fold(other), found, depth + 1, reading.disguise)
        if "\\" in text:
            # An escaped line break, as in JSON, is a separator, not a letter of the next word.
            text = text.replace("\\n", " \n").replace("\\r", " \r").replace("\\t", "  ")
            content = text.encode("utf-8", "surrogatepass")
        for number, (start, end, detector) in enumerate(self._matches(text, content, there)):
            if not number % 64:
                self.in_time()
            if disguise and detector.category is not Category.INJECTION:
                continue
            if view.starts is not None:
                start, end = view.span(start, end)
            key = (start, end, detector.kind)
            known = found.get(key)
            if known is None or known.weight < detector.weight:
                found[key] = Found(start, end, detector.kind, detector.category, detector.weight)

    def in_time(self) -> None:
        """Raise OutOfTime after the deadline."""
        if time.monotonic() > self.until:
            raise OutOfTime

    def _matches(self, text: str, content: bytes, there: list[int]) -> Iterator[_Match]:
        hits: list[int] = []
        for number in there:
            hits += self._alone[number]
            for detector, hint in self._under[number]:
                if hint in there:
                    hits.append(detector)
        if cues := sorted(self._ask.intersection(hits)):
            yield from self._after_cues(text, cues)
        exact, where = (self._plain, content) if len(content) == len(text) else (self._exact, text)
        hits.sort(key=self._rank.__getitem__)
        for number in hits:
            if number in self._ask:
                continue
            detector, context, value = self._detectors[number], self._context[number], self._value[number]
            check = detector.check
            for count, match in enumerate(exact[number].finditer(where)):
                if count % 64 == 63:
                    self.in_time()
                span = match.span(value)
                for first, last in check(text, *span) if check is not None else (span,):
                    if context is None or self._announced(text, first, last, context, detector.after):
                        yield first, last, detector

    @staticmethod
    def _announced(text: str, start: int, end: int, context: Any, after: bool) -> bool:
        before = context.search(text[max(0, start - CONTEXT) : start])
        return bool(before or (after and context.search(text[end : end + AFTER])))

    def _after_cues(self, text: str, hits: list[int]) -> Iterator[_Match]:
        """Identifiers after announcing words."""
        last = self._recognizers.asked + BUDGET
        for number in hits:
            detector = self._detectors[number]
            afters = [match.end() for match in self._exact[number].finditer(text)]
            spans: list[tuple[int, int]] = []
            for place, after in enumerate(afters):
                if self._recognizers.asked >= last:
                    spans += self._recognizers.any(text, afters[place:])
                    break
                spans += self._recognizers.spans(detector.recognizer, text, after)
            for start, end in spans:
                yield start, end, detector


def settled(found: Iterable[Found], rank: Callable[[Found], int] = lambda _: 0) -> list[Found]:
    """Findings without overlaps. The highest rank wins, then the longest, then the first."""
    kept: list[Found] = []  # sorted and disjoint, so only neighbours need a check for overlaps
    for one in sorted(found, key=lambda f: (-rank(f), f.start - f.end, f.start)):
        place = bisect_left(kept, one.start, key=_start)
        if (not place or one.start >= kept[place - 1].end) and (place == len(kept) or one.end <= kept[place].start):
            kept.insert(place, one)
    return kept


def _start(found: Found) -> int:
    return found.start


def _compiled(expression: str | bytes) -> Any:
    """A compiled expression. Single characters are searched faster without RE2."""
    return re.compile(expression) if len(expression) == 1 else re2.compile(expression)
