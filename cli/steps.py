"""Data classes for the results of a preview."""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.crossguard.rule import Level

REPLACING = {"replace", "create-replacement", "delete-replaced"}


@dataclass(frozen=True)
class Step:
    """One resource that would change."""

    operation: str
    type: str
    name: str
    part: str
    """Part that the resource belongs to."""
    fields: tuple[str, ...] = ()
    """Fields that change."""
    replacing: tuple[str, ...] = ()
    """Fields whose change forces the replacement."""


@dataclass(frozen=True)
class Violation:
    """A policy that a resource violates."""

    rule: str
    level: Level
    urn: str
    message: str

    @property
    def resource(self) -> str:
        """Type and name."""
        parts = self.urn.split("::")
        return f"{parts[2].split('$')[-1]} {parts[-1]}" if len(parts) > 3 else self.urn


@dataclass
class Preview:
    """Results of a preview."""

    stack: str
    steps: list[Step] = field(default_factory=list[Step])
    unchanged: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    notes: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    unreleased: list[str] = field(default_factory=list[str])
    """Messages about images that cannot be deployed because they have no digest."""

    @property
    def refused(self) -> bool:
        """Whether `forge up` would refuse this update."""
        return bool(self.errors or self.unreleased) or any(v.level is Level.MANDATORY for v in self.violations)
