"""Definitions of an alert and of a dashboard panel, and the conditions on error budgets."""

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


def burns_fast(ratio: str, budget: float) -> str:
    """A condition: errors use 2 % of a budget of 30 days within an hour.

    `ratio` is the share of errors, with `$window` in place of the window; `budget` is the share that is allowed.
    Source of the factors and windows: Google, The Site Reliability Workbook, chapter 5.
    """
    return _burns(ratio, 14.4 * budget, "1h", "5m")


def burns_slowly(ratio: str, budget: float) -> str:
    """The same for 5 % of the budget within six hours."""
    return _burns(ratio, 6 * budget, "6h", "30m")


def _burns(ratio: str, most: float, *windows: str) -> str:
    return " and ".join(f"({ratio.replace('$window', window)} > {most:g})" for window in windows)


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
    return set(re.findall(r"[a-z_][a-z0-9_]{2,}", plain)) - _FUNCTIONS
