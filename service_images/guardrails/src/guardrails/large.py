"""Large checks in a worker process (see `kit/workers.py`)."""

from __future__ import annotations

import base64
import functools
from collections.abc import Sequence

from kit.guard_policy import Direction, Policy

from guardrails.answers import Form, Outcome, outcome
from guardrails.guard import Guard, Verdict
from guardrails.policy import Compiled


def check(policy: str, direction: str, texts: Sequence[str], others: set[int], form: str, limit_s: float) -> Outcome:
    """Entry point with JSON-compatible arguments and results: the content is in base64. Raises OutOfTime."""
    guard().within(limit_s)
    found = outcome(checked(guard(), _compiled(policy), Direction(direction), texts, others), Form(form))
    return found._replace(content=base64.b64encode(found.content).decode())  # type: ignore[arg-type]


def checked(
    guard: Guard, policy: Compiled, direction: Direction, texts: Sequence[str], others: set[int]
) -> list[Verdict]:
    """Check texts. The schema of answers does not apply to the texts with the indices `others`."""
    return [guard.check(text, policy, direction, answer=number not in others) for number, text in enumerate(texts)]


@functools.cache
def guard() -> Guard:
    """The worker's guard."""
    made = Guard()
    made.load()
    return made


@functools.lru_cache(16)
def _compiled(policy: str) -> Compiled:
    return Compiled(Policy.model_validate_json(policy))
