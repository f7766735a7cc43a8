"""Definition of a detector."""

from __future__ import annotations

from dataclasses import dataclass

from kit.guard_policy import Category

from guardrails.checks import Check
from guardrails.hints import Part


@dataclass(frozen=True)
class Detector:
    """Detector for one form of a kind."""

    kind: str
    category: Category
    exact: str
    """RE2 expression for folded texts. The group "v", if present, is the finding."""
    check: Check | None = None
    context: str = ""
    """RE2 expression that must match in the characters before a finding; empty if no context is needed."""
    hint: str = ""
    """Expression for Hyperscan; empty means `exact`. Equal hints of several detectors are searched once."""
    part: Part = Part.WORDS
    """Database of the hint."""
    weight: float = 1.0
    """Confidence of a finding, at most 1. Those of several injections are added."""
    recognizer: str = ""
    """Presidio recognizer for the text after `exact`, which matches words that announce an identifier."""
    after: bool = False
    """Whether the context may also follow the finding, for kinds with a check digit."""
