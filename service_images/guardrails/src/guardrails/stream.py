"""A text that comes in pieces: each piece goes on once it is sure that nothing in it has to go.

What may still become something, such as half an address, is held back: the last word, or group of numbers, and never
more than `HELD` characters or the piece that has just come, whichever is longer.
"""

from __future__ import annotations

import re

from guardrails.guard import Finding, Guard, redacted
from guardrails.policy import Action, Compiled, Direction

HELD = 128
"""Characters; longer than nearly all that is looked for."""
SEEN = 256
"""Characters that have gone on and are still looked at: what words say of what follows."""
_OPEN = re.compile(r"(?:[^\s]+|(?:[^\s]*[\d+(][\d\s().+\-]*))\Z")
"""What may go on in the next piece: a word, or a number written in groups."""
_PHRASE = re.compile(
    r"(?i)\b(?:ignore|disregard|forget|override|bypass|reveal|show|print|repeat|password|secret|born|-----BEGIN)\b[^\n]{0,100}\Z"
)


class Stream:
    """One text."""

    def __init__(self, guard: Guard, policy: Compiled, direction: Direction) -> None:
        self._guard, self._policy, self._direction = guard, policy, direction
        self._held, self._before, self._place = "", "", 0
        self.action = Action.ALLOW
        """The strongest so far."""

    def feed(self, piece: str, *, last: bool = False) -> tuple[str, list[Finding]]:
        """What goes on now, and what was found in it; nothing goes on any more once something blocks."""
        if self.action is Action.BLOCK:
            return "", []
        self._held += piece
        cut = len(self._held) if last else self._safe(len(piece))
        window = self._before + self._held
        begin = len(self._before)
        found = self._guard.find(window, self._policy, self._direction)
        for finding in found:
            # What crosses the cut is not told yet: it comes whole with the next piece, or goes whole now.
            if finding.start < begin + cut < finding.end:
                cut = (
                    max(0, finding.start - begin) if not self._too_long(finding.start - begin) else finding.end - begin
                )
        new = [f for f in found if begin <= f.start < begin + cut]
        offset = self._place - begin
        findings = [Finding(f.start + offset, f.end + offset, f.kind, f.category, f.action) for f in new]
        self.action = max([self.action, *(f.action for f in findings)])
        if self.action is Action.BLOCK:
            self._held = ""
            return "", findings
        text = redacted(self._held[:cut], new, begin)
        self._before = (self._before + self._held[:cut])[-SEEN:]
        self._held, self._place = self._held[cut:], self._place + cut
        return text, findings

    def _too_long(self, start: int) -> bool:
        return len(self._held) - start > 8 * HELD

    def _safe(self, piece: int) -> int:
        """How much of what is held may go on."""
        limit = max(0, len(self._held) - max(HELD, piece))
        tail = self._held[limit:]
        starts = [found.start() for pattern in (_OPEN, _PHRASE) if (found := pattern.search(tail))]
        return limit + min(starts) if starts else len(self._held)
