"""A text that comes in pieces: each piece goes on once it is sure that nothing in it has to go.

What may still become something, such as half an address, is held back: the last word, or group of numbers, and never
more than one chunk. What is longer than that, such as a private key, is told as soon as it is known for what it is;
the rest of it then goes as it comes. Where the answer has to fit a schema, all of it is held back until its end: only
then is it known whether it does.
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
"""Characters that are held back at most, or as many as have just come at once; longer than nearly all that is looked
for. The peers look at a stream in larger ones (NeMo Guardrails, `streaming.chunk_size`: 200 tokens)."""
SEEN = 256
"""Characters that have gone on and are still looked at: what words say of what follows."""
LONGEST = 16_384
"""Characters that are looked at anew while something goes on; an RSA key of 4,096 bits has 3,300."""
_NUMBER = r"\S{0,8}[\d+(]\S{0,8}"
_FORMS = (
    # A number in groups, also with letters in or before them, as in IBANs; behind it, words may say what it is.
    rf"(?:[A-Z]{{1,4}}\s{{1,3}}){{0,2}}{_NUMBER}(?:\s{{1,3}}(?:{_NUMBER}|[A-Z]{{1,4}}))*\s{{0,3}}",
    rf"\S{{0,8}}\d[\d\s().+\-/_]{{5,40}}\d[^\n]{{0,{AFTER}}}",
    r"(?:[A-Z]{1,4}\s{1,3}){1,2}[A-Z]{0,4}",
    rf"(?i:(?:{SAID}[\s,.\-]{{1,3}})+[a-z]*\s?)",
    r"\S+",  # a word
)
_OPEN = re2.compile(rf"(?:^|\s)({'|'.join(_FORMS)})\z")
"""What may go on in the next piece."""
_PLAIN = re2.compile(r"\s*\p{Lu}?[\p{Ll}\p{Lo}\p{M}]+[.,;:!?]{0,3}\s*")
"""A word as it stands in sentences, also of a script without spaces: no number, address or key, nothing in capitals."""
PLAIN_MOST = 32
"""Characters of such a word, with what is around it."""
_BETWEEN = re.compile(r"(?:\s|\\[nr])+")
"""After this, what was found may go on in the next line."""
_PHRASE = re2.compile(
    r"(?i)(?:\b(?:ignore|disregard|forget|override|bypass|reveal|show|print|repeat|born|birth|dob|geboren|ne|nacido)\b"
    rf"|{pattern(PASSWORD)}|-----(?:BEGIN|END)\b)[^\n]{{0,100}}\z"
)


class Stream:
    """One text."""

    def __init__(self, guard: Guard, policy: Compiled, direction: Direction, *, answer: bool = True) -> None:
        self._shaped = answer and has_shape(policy, direction)
        self._guard, self._policy, self._direction = guard, policy, direction
        self._held, self._before = "", ""
        self._place = 0
        """Where, in the whole text, what is held begins."""
        self._told: dict[tuple[int, str], int] = {}
        """Findings that were told and may go on: where each begins, its kind, and where it ended."""
        self.action = Action.ALLOW
        """The strongest so far."""

    def whole(self, last: str) -> str:
        """The whole answer with its last piece, where only that can be judged; else nothing."""
        return self._held + last if self._shaped else ""

    @property
    def held(self) -> int:
        """Characters that have come and wait."""
        return len(self._held)

    def late(self) -> tuple[str, list[Finding]]:
        """What goes on since nothing further comes for now: a plain word, after which nothing is open.

        It may be the beginning of an address: that is found when the rest of it has come, and the rest is redacted.
        What goes on like this is never more than the first letters of something. Numbers, what follows a word of which
        some has gone on like this, and what words before say something of wait until they are whole. Raises NotLoaded.
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
        """What goes on now, and what was found in it; nothing goes on any more once something blocks.

        Raises NotLoaded; then the piece has not been taken.
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
        new = [f for f in now if f.end > self._place and (f.start, f.kind) not in self._told]
        self.action = max([self.action, *(f.action for f in new)])
        if self.action is Action.BLOCK:
            self._held = ""
            return "", new
        text = self._redacted(now, new, cut)
        self._go(now, cut)
        return text, new

    def _whole(self, *, last: bool) -> tuple[str, list[Finding]]:
        """All of the answer at its end, if it fits the schema."""
        if len(self._held) > GUARD_SHAPED.most:
            self.action, self._held = Action.BLOCK, ""
            return "", [Finding(0, GUARD_SHAPED.most, "shape", Category.SCHEMA, Action.BLOCK)]
        if not last:
            return "", []
        verdict = self._guard.check(self._held, self._policy, self._direction)
        self.action, self._held = verdict.action, ""
        return verdict.text, list(verdict.findings)

    def _cut(self, found: list[Finding], piece: int) -> int:
        """Up to where the text may go on. What crosses that place waits, or goes whole now: it is told once."""
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
        """What goes on. Of what was told before and goes on itself, nothing more is said."""
        known = (f.end for f in findings if f.action is Action.REDACT and (f.start, f.kind) in self._told)
        begin = min(cut, max((self._place, *known)))
        text = self._held[begin - self._place : cut - self._place]
        return redacted(text, [f for f in new if f.end > begin], begin)

    def _go(self, findings: list[Finding], cut: int) -> None:
        """Up to here it has gone on; keep what may say something of the rest."""
        since = cut - SEEN
        self._told = {place: end for place, end in self._told.items() if end > since}
        self._told |= {(f.start, f.kind): f.end for f in findings}
        since = max(cut - LONGEST, min((since, *(start for start, _ in self._told))))
        text = self._before + self._held
        begin = self._place - len(self._before)
        self._before, self._held = text[max(0, since - begin) : cut - begin], self._held[cut - self._place :]
        self._place = cut


def _open(tail: str) -> int:
    """Where that begins at the end of a text which may go on in the next piece."""
    view = fold(View(tail))
    starts = [match.start(match.re.groups) for pattern in (_OPEN, _PHRASE) if (match := pattern.search(view.text))]
    start = min(starts, default=len(view.text))
    return view.span(start, start + 1)[0] if start < len(view.text) else len(tail)
