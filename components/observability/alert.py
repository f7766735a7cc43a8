"""What an alert and a panel of a dashboard are."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """One alert."""

    name: str
    expression: str
    lasts: str
    """How long it has to be so."""
    severity: str
    """page or ticket."""
    summary: str
    part: str
    """Whose it is; empty: every environment's."""


@dataclass(frozen=True)
class Panel:
    """One graph of a dashboard."""

    title: str
    query: str
    unit: str
    """As Grafana names it."""
    part: str = ""
    """Whose it is; empty: every environment's."""


_FUNCTIONS = frozenset(
    ("sum", "max", "by", "and", "rate", "increase", "histogram_quantile", "predict_linear", "scalar")
)


def metrics(expression: str) -> set[str]:
    """Names of the metrics that a query of these asks for."""
    plain = re.sub(r'"[^"]*"', "", re.sub(r"\[[^]]*\]", "", expression))
    plain = re.sub(r"\bby \([^)]*\)", "", re.sub(r"\{[^}]*\}", "", plain))
    return set(re.findall(r"[a-z_][a-z0-9_]{2,}", plain)) - _FUNCTIONS
