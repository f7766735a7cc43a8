"""Definition of an alert, and what queries of alerts and dashboards have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Runbook:
    """What to do about an alert. Texts may contain labels of the alert, such as {{ $labels.job }}, and $namespace."""

    cause: str
    """Usual causes, the most frequent one first."""
    checks: tuple[str, ...]
    """Commands that show the cause. They change nothing."""
    fix: str
    """How to remove the cause, and what is lost until then."""

    def annotations(self) -> dict[str, str]:
        """Annotations of the alert's rule."""
        return {"cause": self.cause, "checks": "\n".join(self.checks), "fix": self.fix}


@dataclass(frozen=True)
class Alert:
    """A Prometheus alert."""

    name: str
    expression: str
    lasts: str
    """Duration for which the expression must hold, such as "5m"."""
    severity: str
    """Severity: "page" or "ticket"."""
    summary: str
    part: str
    """Part that it watches; empty means that every environment has it."""
    runbook: Runbook


def within(namespace: str, text: str) -> str:
    """A query, or a text for an operator, with the platform's namespace in place of $namespace."""
    return text.replace("$namespace", namespace)


def readable(text: str) -> str:
    """A rule's text with labels as words in capitals, for reading without a raised alert."""
    return re.sub(r"{{ *\$labels\.(\w+) *}}", lambda found: found[1].upper(), text)


_FUNCTIONS = frozenset(
    (
        "absent",
        "sum",
        "count",
        "max",
        "min",
        "by",
        "and",
        "group_left",
        "ignoring",
        "rate",
        "increase",
        "histogram_quantile",
        "predict_linear",
        "scalar",
        "time",
    )
)


def metrics(expression: str) -> set[str]:
    """Names of all metrics in a query."""
    plain = re.sub(r'"[^"]*"', "", re.sub(r"\[[^]]*\]", "", expression))
    plain = re.sub(r"\b(by|ignoring|group_left) \([^)]*\)", "", re.sub(r"\{[^}]*\}", "", plain))
    return set(re.findall(r"[a-zA-Z_][a-zA-Z0-9_:]{2,}", plain)) - _FUNCTIONS
