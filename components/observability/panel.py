"""Definitions of dashboards: queries, panels and boards. Pure data, which `dashboards` renders for Grafana."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.observability.alert import metrics

Unit = Literal[
    "Bps",
    "bytes",
    "celsius",
    "currencyUSD",
    "ms",
    "ops",
    "percent",
    "percentunit",
    "reqps",
    "rotmhz",
    "s",
    "short",
    "watt",
]
"""Grafana's names of units. `Bps`: bytes per second; `ops`: anything else per second; `reqps`: requests per second;
`percent`: 0 to 100; `percentunit`: 0 to 1; `rotmhz`: MHz; `s` and `ms`: durations; `short`: a number.
"""


@dataclass(frozen=True)
class Query:
    """What one or more lines of a graph show."""

    expression: str
    """PromQL. `$namespace` stands for the platform's namespace; ranges of rates are `[$__rate_interval]`."""
    legend: str
    """Name of a line; {{label}} stands for the value of a label."""


@dataclass(frozen=True)
class Panel:
    """A graph on a dashboard."""

    title: str
    description: str
    """What a reader learns from it, and which values are bad."""
    unit: Unit
    queries: tuple[Query, ...]
    part: str = ""
    """Part that has the metrics; empty: whatever the board watches."""


def panel(title: str, description: str, unit: Unit, *queries: tuple[str, str], part: str = "") -> Panel:
    """A panel with the queries (expression, legend)."""
    return Panel(title, description, unit, tuple(Query(*one) for one in queries), part)


@dataclass(frozen=True)
class Board:
    """A dashboard."""

    name: str
    """Unique; the end of its address in Grafana."""
    title: str
    description: str
    """The question that it answers."""
    folder: str
    panels: tuple[Panel, ...]
    part: str = ""
    """Part that it watches; empty means that every environment has it."""

    @property
    def metrics(self) -> set[str]:
        """Names of all metrics that it queries."""
        return {name for one in self.panels for query in one.queries for name in metrics(query.expression)}


def rate(counter: str, by: str = "", labels: str = "") -> str:
    """Query for the increase of a counter per second, summed up, or by these labels."""
    increase = f"rate({counter}{f'{{{labels}}}' if labels else ''}[$__rate_interval])"
    return f"sum by ({by}) ({increase})" if by else f"sum({increase})"


def quantile(share: float, histogram: str, by: str = "", labels: str = "") -> str:
    """Query for a quantile of a histogram, by these labels."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', ', '.join(filter(None, (by, 'le'))), labels)})"


def usage(pods: str) -> tuple[Panel, Panel]:
    """Panels of the CPU time and the memory of pods, whose names match a regular expression."""
    chosen = f'namespace="$namespace",pod=~"{pods}",container!=""'
    return (
        panel(
            "CPU time",
            "Processor seconds that each container uses in a second.",
            "short",
            (rate("container_cpu_usage_seconds_total", "pod, container", chosen), "{{pod}} {{container}}"),
        ),
        panel(
            "Memory",
            "Memory that the kernel cannot take back. At its limit, a container is killed.",
            "bytes",
            (
                f"sum by (pod, container) (container_memory_working_set_bytes{{{chosen}}})",
                "{{pod}} {{container}}",
            ),
        ),
    )


def volumes(claims: str, part: str = "") -> Panel:
    """Panel of the free space on volumes, whose claims match a regular expression."""
    chosen = f'{{namespace="$namespace",persistentvolumeclaim=~"{claims}"}}'
    return panel(
        "Volumes: free space",
        "A full volume stops writes. VolumeAlmostFull warns at 15 %.",
        "percentunit",
        (
            f"kubelet_volume_stats_available_bytes{chosen} / kubelet_volume_stats_capacity_bytes{chosen}",
            "{{persistentvolumeclaim}}",
        ),
        part=part,
    )


def budgets(labels: str, legend: str, promised: str = "") -> tuple[Panel, Panel]:
    """Panels of the error budgets of objectives: what is left, and how fast it is used.

    `labels`: which objectives; `promised`: a sentence that names them.
    """
    chosen = f"{{{labels}}}" if labels else ""
    return (
        panel(
            "Error budgets left",
            " ".join(filter(None, ("Share of each objective's budget of 30 days that is left.", promised))),
            "percentunit",
            (f"slo:period_error_budget_remaining:ratio{chosen}", legend),
        ),
        panel(
            "Pace at which error budgets are used",
            "At 1, a budget lasts for 30 days. At 14.4, it is used up within two days.",
            "short",
            (f"slo:current_burn_rate:ratio{chosen}", legend),
        ),
    )
