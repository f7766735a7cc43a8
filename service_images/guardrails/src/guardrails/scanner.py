"""Finds what detectors describe: Hyperscan looks for all hints at once; RE2, checks and Presidio say what it is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hyperscan
import re2
from kit.guard_policy import Category

from guardrails.detectors import DETECTORS, INJECTED, Detector
from guardrails.recognizers import BUDGET, Recognizers

CONTEXT = 60
"""Characters before a finding in which words may say what it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A thing in a text, by the places of its characters."""

    start: int
    end: int
    kind: str
    category: Category
    weight: float = 1.0


class Scanner:
    """Made once; used by one thread at a time."""

    def __init__(self, detectors: Sequence[Detector] = DETECTORS) -> None:
        self._detectors = detectors
        self._exact = [re2.compile(d.exact) for d in detectors]
        # Of bytes, whose places need not be translated; in ASCII they are the characters'.
        self._plain = [re2.compile(d.exact.encode()) for d in detectors]
        self._value = [exact.groupindex.get("v", 0) for exact in self._exact]
        self._context = [re2.compile(d.context) if d.context else None for d in detectors]
        # Words that have to be there are looked for with the rest: without them nothing else needs to be done.
        said = [d.context for d in detectors if d.context]
        self._hints = Hints([*(d.hint or d.exact for d in detectors), *said])
        self._recognizers = Recognizers(d.recognizer for d in detectors if d.recognizer)
        numbers = iter(range(len(detectors), len(detectors) + len(said)))
        self._said = [next(numbers) if d.context else None for d in detectors]

    def scan(self, text: str) -> list[Found]:
        """What is in a text, in order, without overlaps."""
        # What words say it is goes before what only its form says.
        content = text.encode("utf-8", "surrogatepass")
        there = self._hints.hits(content)
        if not there:
            return []
        count = len(self._detectors)
        hits = [n for n in there if n < count and ((said := self._said[n]) is None or said in there)]
        hits.sort(key=lambda number: (self._context[number] is None, number))
        told = [number for number in hits if self._detectors[number].recognizer]
        found = self._told(text, told) if told else []
        exact, where = (self._plain, content) if len(content) == len(text) else (self._exact, text)
        for number in hits:
            detector = self._detectors[number]
            if detector.recognizer:
                continue
            for match in exact[number].finditer(where):
                start, end = match.span(self._value[number])
                if detector.check is not None:
                    end = detector.check(text, start, end)
                    if not end:
                        continue
                around = self._context[number]
                if around is not None and not around.search(text[max(0, start - CONTEXT) : start]):
                    continue
                found.append(Found(start, end, detector.kind, detector.category, detector.weight))
        return _settled(found)

    def _told(self, text: str, hits: list[int]) -> list[Found]:
        """What follows words that tell of an identifier."""
        found: list[Found] = []
        left = BUDGET
        for number in hits:
            detector = self._detectors[number]
            afters = [match.end() for match in self._exact[number].finditer(text)]
            spans = [s for after in afters[:left] for s in self._recognizers.spans(detector.recognizer, text, after)]
            spans += self._recognizers.any(text, afters[left:])
            left = max(0, left - len(afters))
            found += [Found(start, end, detector.kind, detector.category) for start, end in spans]
        return found


def _settled(found: list[Found]) -> list[Found]:
    """The longest of those that overlap; injections only if together they are sure enough."""
    injected = {f for f in found if f.category is Category.INJECTION}
    if sum({f.kind: f.weight for f in injected}.values()) < INJECTED:
        found = [f for f in found if f not in injected]
    kept: list[Found] = []  # in order, and apart: whether something overlaps is seen at its neighbours
    for one in sorted(found, key=lambda f: (f.start - f.end, f.start)):
        place = bisect_left(kept, one.start, key=_start)
        before, after = kept[place - 1 : place], kept[place : place + 1]
        if all(one.start >= other.end for other in before) and all(one.end <= other.start for other in after):
            kept.insert(place, one)
    return kept


def _start(found: Found) -> int:
    return found.start


class Hints:
    """Which of many expressions are somewhere in a text."""

    def __init__(self, expressions: Sequence[str]) -> None:
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        self._database.compile(
            expressions=[_plain(expression).encode() for expression in expressions],
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=[hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_ALLOWEMPTY] * len(expressions),
        )
        self._scratch = hyperscan.Scratch(self._database)
        self._hits: list[int] = []

    def hits(self, content: bytes) -> list[int]:
        """Their numbers."""
        self._hits = []
        self._database.scan(content, match_event_handler=self._hit, scratch=self._scratch)
        return self._hits

    def _hit(self, number: int, *_: Any) -> None:
        self._hits.append(number)


def _plain(expression: str) -> str:
    """Hyperscan knows no named groups."""
    return expression.replace("(?P<v>", "(")
