"""The exception for all errors that users can correct."""

from __future__ import annotations


class LocalError(Exception):
    """An error that the user can correct: what failed, why, and what to do."""

    def __init__(self, problem: str, *, reason: str = "", fix: str = "") -> None:
        """`problem`: what failed, in one sentence. `reason`: the reported cause. `fix`: what to do next."""
        super().__init__(problem)
        self.problem = problem
        self.reason = reason.strip()
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.problem]
        if self.reason:
            lines.append(f"  why: {self.reason}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)
