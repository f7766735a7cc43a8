"""Answers about texts in the formats of REST and gRPC. They are built where the check runs, which may be a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec
from cogniforge.guardrails.v1 import guardrails_pb2 as messages
from kit.guard_policy import Action, Category

from guardrails.guard import Finding, Verdict


class Form(StrEnum):
    """Format of an answer."""

    REST = "rest"
    RPC = "rpc"
    MODERATION = "moderation"
    """For OpenAI's clients: the list of results as JSON."""


class Outcome(NamedTuple):
    """Result of a check."""

    action: Action
    kinds: dict[str, int]
    """Number of findings by kind."""
    content: bytes
    """The answer."""


def outcome(verdicts: Sequence[Verdict], form: Form) -> Outcome:
    """Result of a check of several texts."""
    action = max((verdict.action for verdict in verdicts), default=Action.ALLOW)
    kinds = Counter(finding.kind for verdict in verdicts for finding in verdict.findings)
    return Outcome(action, dict(kinds), _WRITERS[form](action, verdicts))


def action_of(action: Action) -> Any:
    """An action in gRPC's messages."""
    return messages.Action.Value(f"ACTION_{action.name}")


def finding_of(finding: Finding, number: int) -> messages.Finding:
    """A finding in gRPC's messages. `number` is the index of its text."""
    return messages.Finding(
        text=number,
        start=finding.start,
        end=finding.end,
        kind=finding.kind,
        category=finding.category.value,
        action=action_of(finding.action),
    )


def _rest(action: Action, verdicts: Sequence[Verdict]) -> bytes:
    findings = [
        {
            "text": number,
            "start": f.start,
            "end": f.end,
            "kind": f.kind,
            "category": f.category,
            "action": f.action.word,
        }
        for number, verdict in enumerate(verdicts)
        for f in verdict.findings
    ]
    return msgspec.json.encode(
        {"action": action.word, "texts": [verdict.text for verdict in verdicts], "findings": findings}
    )


def _rpc(action: Action, verdicts: Sequence[Verdict]) -> bytes:
    findings = [finding_of(finding, number) for number, verdict in enumerate(verdicts) for finding in verdict.findings]
    texts = [verdict.text for verdict in verdicts]
    return messages.CheckResponse(action=action_of(action), texts=texts, findings=findings).SerializeToString()


def _moderation(_: Action, verdicts: Sequence[Verdict]) -> bytes:
    return msgspec.json.encode([_moderated(verdict) for verdict in verdicts])


def _moderated(verdict: Verdict) -> dict[str, Any]:
    found = {finding.category for finding in verdict.findings}
    shown = (Category.PII, Category.SECRET, Category.INJECTION)
    return {
        "flagged": bool(found),
        "categories": {category.value: category in found for category in shown},
        "category_scores": {category.value: float(category in found) for category in shown},
        "category_applied_input_types": {category.value: ["text"] for category in shown},
    }


_WRITERS: dict[Form, Callable[[Action, Sequence[Verdict]], bytes]] = {
    Form.REST: _rest,
    Form.RPC: _rpc,
    Form.MODERATION: _moderation,
}
