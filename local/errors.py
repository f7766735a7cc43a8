"""The one error that the local environment shows to its user."""

from __future__ import annotations


class LocalError(Exception):
    """Something that the user can mend: what failed, why, and what to do about it."""

    def __init__(self, problem: str, *, reason: str = "", fix: str = "") -> None:
        """`problem` is one sentence; `reason` the cause as reported; `fix` the next step to take."""
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
