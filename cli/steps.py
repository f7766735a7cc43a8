"""What a preview finds, as data."""

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
    """The component that it belongs to."""
    fields: tuple[str, ...] = ()
    """Changed fields."""
    replacing: tuple[str, ...] = ()
    """Fields whose change forces the replacement."""


@dataclass(frozen=True)
class Violation:
    """One policy that objects."""

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
    """Everything that a preview tells."""

    stack: str
    steps: list[Step] = field(default_factory=list[Step])
    unchanged: int = 0
    violations: list[Violation] = field(default_factory=list[Violation])
    notes: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    unreleased: list[str] = field(default_factory=list[str])
    """Why images cannot be deployed: they have no digest."""

    @property
    def refused(self) -> bool:
        """Whether an update would be refused."""
        return bool(self.errors or self.unreleased) or any(v.level is Level.MANDATORY for v in self.violations)
