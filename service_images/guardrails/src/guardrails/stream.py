"""Checks a text that arrives in pieces. A piece is released once no part of it can belong to a finding.

Possible beginnings of a finding, such as half an address, are held back: the last word or group of numbers, and at most
one chunk. Longer findings, such as a private key, are reported as soon as they are recognised, and their rest is
redacted as it arrives. If the answer must match a schema, all of it is held back until its end.
"""

from __future__ import annotations

import re

import re2
from kit.guard_policy import Action, Category, Direction
from kit.limits import GUARD_SHAPED

from guardrails.detectors import PASSWORD
from guardrails.folding import fold, pattern
from guardrails.guard import Finding, Guard, has_shape, redacted
from guardrails.policy import Compiled
from guardrails.readings import SAID
from guardrails.recognizers import NotLoaded
from guardrails.scanner import AFTER
from guardrails.views import View

CHUNK = 128
"""Most characters that are held back, unless a piece is longer. It exceeds the length of nearly all findings. Similar
products use larger chunks (NeMo Guardrails, `streaming.chunk_size`: 200 tokens)."""
SEEN = 256
"""Number of released characters that are still searched for context words."""
LONGEST = 16_384
"""Most characters that are scanned again while a finding continues. An RSA key of 4,096 bits has 3,300."""
_NUMBER = r"\S{0,8}[\d+(]\S{0,8}"
_FORMS = (
    # A number in groups, possibly with letters, as in IBANs. Context words may follow it.
    rf"(?:[A-Z]{{1,4}}\s{{1,3}}){{0,2}}{_NUMBER}(?:\s{{1,3}}(?:{_NUMBER}|[A-Z]{{1,4}}))*\s{{0,3}}",
    rf"\S{{0,8}}\d[\d\s().+\-/_]{{5,40}}\d[^\n]{{0,{AFTER}}}",
    r"(?:[A-Z]{1,4}\s{1,3}){1,2}[A-Z]{0,4}",
    rf"(?i:(?:{SAID}[\s,.\-]{{1,3}})+[a-z]*\s?)",
    r"\S+",  # a word
)
_OPEN = re2.compile(rf"(?:^|\s)({'|'.join(_FORMS)})\z")
"""Text that may continue in the next piece."""
_PLAIN = re2.compile(r"\s*\p{Lu}?[\p{Ll}\p{Lo}\p{M}]+[.,;:!?]{0,3}\s*")
"""An ordinary word of a sentence, also in scripts without spaces: no number, address or key, no capitals."""
PLAIN_MOST = 32
"""Most characters of such a word with its surroundings."""
_BETWEEN = re.compile(r"(?:\s|\\[nr])+")
"""Ending after which a finding may continue in the next line."""
_PHRASE = re2.compile(
    r"(?i)(?:\b(?:ignore|disregard|forget|override|bypass|reveal|show|print|repeat|born|birth|dob|geboren|ne|nacido)\b"
    rf"|{pattern(PASSWORD)}|-----(?:BEGIN|END)\b)[^\n]{{0,100}}\z"
)


class Stream:
    """A text that arrives in pieces."""

    def __init__(self, guard: Guard, policy: Compiled, direction: Direction, *, answer: bool = True) -> None:
        self._shaped = answer and has_shape(policy, direction)
        self._guard, self._policy, self._direction = guard, policy, direction
        self._held, self._before = "", ""
        self._place = 0
        """Start of the held text in the whole text."""
        self._reported: dict[tuple[int, str], int] = {}
        """Reported findings that may continue: start, kind and end."""
        self.action = Action.ALLOW
        """Strictest action so far."""

    def whole(self, last: str) -> str:
        """The whole answer with its last piece if only the whole can be judged, otherwise empty."""
        return self._held + last if self._shaped else ""

    @property
    def held(self) -> int:
        """Number of held characters."""
        return len(self._held)

    def late(self) -> tuple[str, list[Finding]]:
        """Release held text during a pause of the stream: an ordinary word without an open finding.

        The word may be the beginning of an address. That is detected when the rest arrives, and the rest is
        redacted, so only first letters can pass. Numbers, text after a partly released word, and text after context
        words stay held until they are complete. Raises NotLoaded.
        """
        if self._shaped or self.action is Action.BLOCK:
            return "", []
        if len(self._held) > PLAIN_MOST or not _PLAIN.fullmatch(self._held):
            return "", []
        known = self._before[-CHUNK:]
        window = known + self._held
        if _PHRASE.search(fold(View(window)).text) or _open(window) < len(known):
            return "", []
        return self._look(0, last=True)

    def feed(self, piece: str, *, last: bool = False) -> tuple[str, list[Finding]]:
        """(released text, findings) after a new piece. Nothing is released after a blocking finding.

        Raises NotLoaded; the piece is then not consumed.
        """
        if self.action is Action.BLOCK:
            return "", []
        before = self._held
        self._held += piece
        try:
            return self._whole(last=last) if self._shaped else self._look(len(piece), last=last)
        except NotLoaded:
            self._held = before
            raise

    def _look(self, piece: int, *, last: bool) -> tuple[str, list[Finding]]:
        offset = self._place - len(self._before)
        found = [
            Finding(f.start + offset, f.end + offset, f.kind, f.category, f.action)
            for f in self._guard.find(self._before + self._held, self._policy, self._direction)
            if f.end + offset >= self._place
        ]
        cut = self._place + len(self._held) if last else self._cut(found, piece)
        now = [f for f in found if f.start < cut]
        new = [f for f in now if f.end > self._place and (f.start, f.kind) not in self._reported]
        self.action = max([self.action, *(f.action for f in new)])
        if self.action is Action.BLOCK:
            self._held = ""
            return "", new
        text = self._redacted(now, new, cut)
        self._go(now, cut)
        return text, new

    def _whole(self, *, last: bool) -> tuple[str, list[Finding]]:
        """The whole answer at its end, if it matches the schema."""
        if len(self._held) > GUARD_SHAPED.most:
            self.action, self._held = Action.BLOCK, ""
            return "", [Finding(0, GUARD_SHAPED.most, "shape", Category.SCHEMA, Action.BLOCK)]
        if not last:
            return "", []
        verdict = self._guard.check(self._held, self._policy, self._direction)
        self.action, self._held = verdict.action, ""
        return verdict.text, list(verdict.findings)

    def _cut(self, found: list[Finding], piece: int) -> int:
        """Position up to which the text is released. A finding across it is held or released as a whole."""
        end = self._place + len(self._held)
        latest = max(self._place, end - max(CHUNK, piece))
        tail = self._held[latest - self._place :]
        cut = latest + _open(tail)
        if found and _BETWEEN.fullmatch(self._held[found[-1].end - self._place : cut - self._place]):
            cut = max(latest, found[-1].end)
        for finding in found:
            if finding.start < cut < finding.end:
                cut = finding.start if finding.start >= latest else finding.end
        return cut

    def _redacted(self, findings: list[Finding], new: list[Finding], cut: int) -> str:
        """Released text. The continuation of a reported finding is not reported again."""
        known = (f.end for f in findings if f.action is Action.REDACT and (f.start, f.kind) in self._reported)
        begin = min(cut, max((self._place, *known)))
        text = self._held[begin - self._place : cut - self._place]
        return redacted(text, [f for f in new if f.end > begin], begin)

    def _go(self, findings: list[Finding], cut: int) -> None:
        """Mark the text up to `cut` as released, and keep its end as context."""
        since = cut - SEEN
        self._reported = {place: end for place, end in self._reported.items() if end > since}
        self._reported |= {(f.start, f.kind): f.end for f in findings}
        since = max(cut - LONGEST, min((since, *(start for start, _ in self._reported))))
        text = self._before + self._held
        begin = self._place - len(self._before)
        self._before, self._held = text[max(0, since - begin) : cut - begin], self._held[cut - self._place :]
        self._place = cut


def _open(tail: str) -> int:
    """Start of the end of a text that may continue in the next piece."""
    view = fold(View(tail))
    starts = [match.start(match.re.groups) for pattern in (_OPEN, _PHRASE) if (match := pattern.search(view.text))]
    start = min(starts, default=len(view.text))
    return view.span(start, start + 1)[0] if start < len(view.text) else len(tail)
