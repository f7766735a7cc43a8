"""Applies a policy to a text: findings, actions, and the text that may pass."""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from dataclasses import dataclass

from kit.guard_policy import Action, Category, Direction

from guardrails.folding import fold
from guardrails.policy import Compiled
from guardrails.scanner import Found, Scanner, settled
from guardrails.views import View


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding and its action."""

    start: int
    end: int
    kind: str
    category: Category
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result for one text."""

    action: Action
    text: str
    findings: tuple[Finding, ...]


class Guard:
    """Checks whole texts. Used by one thread at a time."""

    def __init__(self, scanner: Scanner | None = None) -> None:
        self._scanner = scanner or Scanner()

    def twin(self) -> Guard:
        """A copy for another thread."""
        return Guard(self._scanner.twin())

    def load_later(self) -> None:
        """Until `load` has completed, checks that need Presidio raise NotLoaded."""
        self._scanner.load_later()

    def load(self) -> None:
        """Load Presidio. Can be called in any thread."""
        self._scanner.load()

    def within(self, seconds: float) -> None:
        """Set a time limit: a check that takes longer raises OutOfTime."""
        self._scanner.until = time.monotonic() + seconds

    def check(self, text: str, policy: Compiled, direction: Direction, *, answer: bool = True) -> Verdict:
        """Check a whole text. The result has the text that may pass, empty if blocked. `answer`: apply the schema."""
        findings = self.find(text, policy, direction)
        if answer and has_shape(policy, direction) and not _fits(text, policy):
            findings.append(Finding(0, len(text), "shape", Category.SCHEMA, Action.BLOCK))
        action = max((finding.action for finding in findings), default=Action.ALLOW)
        going_on = "" if action is Action.BLOCK else redacted(text, findings)
        return Verdict(action, going_on, tuple(findings))

    def find(self, text: str, policy: Compiled, direction: Direction) -> list[Finding]:
        """Findings with an action in the policy, in order."""
        actions = policy.actions[direction]
        found = [one for one in self._scanner.everything(text) if actions.get(one.kind, Action.ALLOW) > Action.ALLOW]
        chosen = {id(one): actions[one.kind] for one in found}
        view = fold(View(text)) if policy.topics else None
        for topic, matches, action in policy.topics if view is not None else ():
            self._scanner.in_time()
            talked = [Found(*view.span(*match.span()), topic.name, Category.TOPIC) for match in matches(view.text)]
            found += talked
            chosen |= dict.fromkeys(map(id, talked), action)
        kept = settled(found, lambda one: chosen[id(one)])
        findings = [Finding(one.start, one.end, one.kind, one.category, chosen[id(one)]) for one in kept]
        rest = [
            Finding(start, end, one.kind, one.category, Action.REDACT)
            for one in found
            if chosen[id(one)] is Action.REDACT
            for start, end in _uncovered(one, kept)
            if any(map(str.isalnum, text[start:end]))
        ]
        return sorted({*findings, *rest}, key=lambda finding: finding.start) if rest else findings


def _uncovered(one: Found, kept: list[Found]) -> list[tuple[int, int]]:
    """Parts of a finding outside of overlapping stricter or longer ones, which must be redacted, too."""
    place = max(0, bisect_left(kept, one.start, key=lambda other: other.start) - 1)
    rest: list[tuple[int, int]] = []
    start = one.start
    while place < len(kept) and kept[place].start < one.end:
        if start < kept[place].start:
            rest.append((start, kept[place].start))
        start = max(start, kept[place].end)
        place += 1
    return [*rest, (start, one.end)] if start < one.end else rest


def redacted(text: str, findings: list[Finding], offset: int = 0) -> str:
    """Text with redacted findings replaced by the names of their kinds. `offset`: start of the text.

    Of a finding that began before the text, the rest is redacted.
    """
    pieces: list[str] = []
    last = 0
    for finding in findings:
        start, end = max(0, finding.start - offset), finding.end - offset
        if finding.action is Action.REDACT and start >= last:
            pieces += [text[last:start], f"<{finding.kind.upper()}>"]
            last = end
    return "".join((*pieces, text[last:])) if pieces else text


def has_shape(policy: Compiled, direction: Direction) -> bool:
    """Whether answers must match a schema."""
    return policy.shape is not None and direction is Direction.OUTPUT


def _fits(text: str, policy: Compiled) -> bool:
    assert policy.shape is not None, "asked for only then"
    try:
        return not policy.shape.problems(json.loads(text))
    except (ValueError, RecursionError):
        return False
