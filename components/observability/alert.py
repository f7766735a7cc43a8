"""Definitions of an alert and of a dashboard panel."""

from __future__ import annotations

import re
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Panel:
    """A graph on a dashboard."""

    title: str
    query: str
    unit: str
    """Unit, with Grafana's name."""
    part: str = ""
    """Part that it watches; empty means that every environment has it."""


_FUNCTIONS = frozenset(
    (
        "absent",
        "sum",
        "count",
        "max",
        "by",
        "and",
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
    plain = re.sub(r"\bby \([^)]*\)", "", re.sub(r"\{[^}]*\}", "", plain))
    return set(re.findall(r"[a-z_][a-z0-9_:]{2,}", plain)) - _FUNCTIONS
