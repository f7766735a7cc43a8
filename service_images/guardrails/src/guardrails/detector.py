"""What describes a kind of thing that is looked for."""

from __future__ import annotations

from dataclasses import dataclass

from kit.guard_policy import Category

from guardrails.checks import Check
from guardrails.hints import Part


@dataclass(frozen=True)
class Detector:
    """One form of one kind."""

    kind: str
    category: Category
    exact: str
    """RE2, for folded texts; the group "v", if there is one, is what is found."""
    check: Check | None = None
    context: str = ""
    """RE2 that must match in the characters before a finding; empty: nothing has to."""
    hint: str = ""
    """For Hyperscan; empty: `exact`. What several have in common is looked for once."""
    part: Part = Part.WORDS
    """The database of the hint."""
    weight: float = 1.0
    """How sure a finding is, of 1; several injections add up."""
    recognizer: str = ""
    """Presidio's recognizer for what follows `exact`, which then matches words that announce an identifier."""
    after: bool = False
    """The context may also follow: for kinds with a check digit."""
