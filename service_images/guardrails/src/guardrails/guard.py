"""A text against a policy: what is found, what is done about it, and what may go on."""

from __future__ import annotations

import json
from dataclasses import dataclass

from kit.guard_policy import Action, Category, Direction

from guardrails.policy import Compiled
from guardrails.scanner import Found, Scanner, settled


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what is done about it."""

    start: int
    end: int
    kind: str
    category: Category
    action: Action


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one text."""

    action: Action
    text: str
    findings: tuple[Finding, ...]


class Guard:
    """Looks at whole texts; used by one thread at a time."""

    def __init__(self) -> None:
        self._scanner = Scanner()

    def check(self, text: str, policy: Compiled, direction: Direction, *, answer: bool = True) -> Verdict:
        """What may go on of a whole text; of one that is blocked, nothing. `answer`: the schema applies to it."""
        findings = self.find(text, policy, direction)
        if answer and has_shape(policy, direction) and not _fits(text, policy):
            findings.append(Finding(0, len(text), "shape", Category.SCHEMA, Action.BLOCK))
        action = max((finding.action for finding in findings), default=Action.ALLOW)
        going_on = "" if action is Action.BLOCK else redacted(text, findings)
        return Verdict(action, going_on, tuple(findings))

    def find(self, text: str, policy: Compiled, direction: Direction) -> list[Finding]:
        """What the policy wants something done about, in order."""
        actions = policy.actions[direction]
        found = [one for one in self._scanner.everything(text) if actions.get(one.kind, Action.ALLOW) > Action.ALLOW]
        chosen = {id(one): actions[one.kind] for one in found}
        for topic, matches, action in policy.topics:
            talked = [Found(*match.span(), topic.name, Category.TOPIC) for match in matches(text)]
            found += talked
            chosen |= dict.fromkeys(map(id, talked), action)
        kept = settled(found, lambda one: chosen[id(one)])
        return [Finding(one.start, one.end, one.kind, one.category, chosen[id(one)]) for one in kept]


def redacted(text: str, findings: list[Finding], offset: int = 0) -> str:
    """With the name of its kind in place of each thing that has to go; `offset`: where the text begins.

    Of what began before the text, the rest has to go.
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
    """Whether answers have to fit a schema."""
    return policy.shape is not None and direction is Direction.OUTPUT


def _fits(text: str, policy: Compiled) -> bool:
    assert policy.shape is not None, "asked for only then"
    try:
        return policy.shape.is_valid(json.loads(text))
    except (ValueError, RecursionError):
        return False
