"""Service level objectives: indicators, and the rules that record error ratios and watch the error budgets.

Names of recorded series, labels, windows and factors are those of Sloth (https://sloth.dev), so that its dashboards
show them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from components.observability.alert import Runbook

DAYS = 30
"""Days of an error budget."""
LEAST_FAILED = 5
"""Failed events in the longer window below which no alert fires. At little traffic, one failure is a large share."""
_WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21_600, "1d": 86_400, "3d": 259_200}
"""Seconds of each window. Ratios of 30 days are derived from those of five minutes."""


@dataclass(frozen=True)
class Burn:
    """A pace at which an error budget is used. Source: Google, The Site Reliability Workbook, chapter 5."""

    factor: float
    """How many times faster than a budget that lasts for 30 days."""
    long: str
    short: str
    """The shorter window ends the alert soon after the errors end."""
    used: str
    """Share of the budget that is used within the longer window."""


FAST = (Burn(14.4, "1h", "5m", "2 % of the month's error budget within an hour"),
        Burn(6, "6h", "30m", "5 % within six hours"))  # fmt: skip
SLOW = (Burn(3, "1d", "2h", "10 % within a day"), Burn(1, "3d", "6h", "10 % within three days"))
_SPEEDS = (("Fast", "page", FAST), ("Slow", "ticket", SLOW))


@dataclass(frozen=True)
class Indicator:
    """A kind of events, of which a share is promised to be good."""

    name: str
    """Unique in the service, such as "availability"."""
    objective: float
    """Share of good events in 30 days."""
    bad: str
    """Query for bad events per second, with `$window` in place of the window. No result means none."""
    total: str
    """The same for all events."""
    failing: str
    """What bad events are, for people: "requests fail"."""


def availability(job: str, objective: float) -> Indicator:
    """Indicator of requests that do not fail, by the metrics that the kit exports."""
    requests = f'http_server_requests_total{{job="{job}"'
    return Indicator(
        "availability",
        objective,
        f'sum(rate({requests},status=~"5.."}}[$window]))',
        f"sum(rate({requests}}}[$window]))",
        "requests fail",
    )


def latency(histogram: str, labels: str, seconds: float, share: float, name: str, slow: str) -> Indicator:
    """Indicator of events that take at most `seconds`, which is a bucket's bound of the histogram.

    `labels`: selector without braces; `slow`: what the others are, for people.
    """
    every, within = f"{{{labels}}}", ",".join((*([labels] if labels else ()), f'le="{float(seconds)}"'))
    total = f"sum(rate({histogram}_count{every}[$window]))"
    return Indicator(name, share, f"({total} - sum(rate({histogram}_bucket{{{within}}}[$window])))", total, slow)


def groups(service: str, title: str, indicators: tuple[Indicator, ...]) -> list[dict[str, Any]]:
    """Groups of a PrometheusRule for the objectives of a service, and the alert that no replica is scraped."""
    return [group for indicator in indicators for group in _of_indicator(service, title, indicator)] + [
        {"name": f"objectives-{service}-scraped", "rules": [_absent(service, title)]}
    ]


def recorded() -> frozenset[str]:
    """Names of all recorded series."""
    sample = _of_indicator("x", "X", availability("x", 0.9))
    return frozenset(rule["record"] for group in sample for rule in group["rules"] if "record" in rule)


def _of_indicator(service: str, title: str, indicator: Indicator) -> Iterator[dict[str, Any]]:
    prefix = f"objectives-{service}-{indicator.name}"
    labels = {"sloth_id": f"{service}-{indicator.name}", "sloth_service": service, "sloth_slo": indicator.name}
    yield {"name": f"{prefix}-errors", "rules": [*_ratios(indicator, labels)]}
    yield {"name": f"{prefix}-budget", "rules": [*_budget(indicator, labels)]}
    yield {"name": f"{prefix}-alerts", "rules": [*_alerts(service, title, indicator, labels)]}


def _ratios(indicator: Indicator, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    for window in _WINDOWS:
        total = f"({indicator.total.replace('$window', window)} > 0)"  # without traffic there is no ratio
        bad = f"({indicator.bad.replace('$window', window)} or 0 * {total})"
        yield _record(f"slo:sli_error:ratio_rate{window}", f"{bad} / {total}", {**labels, "sloth_window": window})
    five = f"slo:sli_error:ratio_rate5m{_selector(labels)}"
    month = f"sum_over_time({five}[{DAYS}d]) / ignoring (sloth_window) count_over_time({five}[{DAYS}d])"
    yield _record(f"slo:sli_error:ratio_rate{DAYS}d", month, {**labels, "sloth_window": f"{DAYS}d"})


def _budget(indicator: Indicator, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    chosen = _selector(labels)
    per_budget = f"/ on (sloth_id) group_left () slo:error_budget:ratio{chosen}"
    yield _record("slo:objective:ratio", f"vector({indicator.objective:g})", labels)
    yield _record("slo:error_budget:ratio", f"vector({1 - indicator.objective:g})", labels)
    yield _record("slo:time_period:days", f"vector({DAYS})", labels)
    yield _record("slo:current_burn_rate:ratio", f"slo:sli_error:ratio_rate5m{chosen} {per_budget}", labels)
    yield _record("slo:period_burn_rate:ratio", f"slo:sli_error:ratio_rate{DAYS}d{chosen} {per_budget}", labels)
    yield _record("slo:period_error_budget_remaining:ratio", f"1 - slo:period_burn_rate:ratio{chosen}", labels)


def _alerts(service: str, title: str, indicator: Indicator, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
    for speed, severity, burns in _SPEEDS:
        yield {
            "alert": f"{camel(service)}{camel(indicator.name)}Budget{speed}",
            "expr": " or ".join(_burning(indicator, labels, burn) for burn in burns),
            "labels": {"severity": severity, **labels},
            "annotations": {
                "summary": f"{title}: {indicator.failing}. They use {' or '.join(b.used for b in burns)}.",
                **runbook(service, title).annotations(),
            },
        }


def _burning(indicator: Indicator, labels: dict[str, str], burn: Burn) -> str:
    most = f"{burn.factor * (1 - indicator.objective):g}"
    above = " and ".join(
        f"max(slo:sli_error:ratio_rate{window}{_selector(labels)} > {most}) without (sloth_window)"
        for window in (burn.short, burn.long)
    )
    failed = f"{_WINDOWS[burn.long]} * {indicator.bad.replace('$window', burn.long)} >= {LEAST_FAILED}"
    return f"({above} and on () ({failed}))"


def _absent(service: str, title: str) -> dict[str, Any]:
    return {
        "alert": f"{camel(service)}NotScraped",
        "expr": f'absent(up{{job="{service}"}} == 1)',
        "for": "10m",
        "labels": {"severity": "page", "sloth_service": service},
        "annotations": {
            "summary": f"Prometheus reads metrics from no replica of {title}: its objectives are not watched.",
            **_absent_runbook(service).annotations(),
        },
    }


def runbook(service: str, title: str) -> Runbook:
    """What to do about a service that uses its error budget too fast."""
    return Runbook(
        f"A new version of {title}, a slow or broken server behind it (its database, a model, Kafka), or more load "
        "than its replicas can serve.",
        ("forge status", f"forge logs {service}", _pods(service)),
        "If the errors began with an update, go back to the version before. If a server behind it fails, repair that "
        "one first. If the replicas lack CPU, add some. Budgets recover by themselves within 30 days.",
    )


def _pods(service: str) -> str:
    return f"kubectl --namespace $namespace get pods --selector app.kubernetes.io/name={service}"


def _absent_runbook(service: str) -> Runbook:
    return Runbook(
        "No replica runs, or the PodMonitor or a network policy has changed.",
        ("forge status", _pods(service), "forge drift"),
        "`forge up` restores what was changed by hand. If no replica starts, its log says why.",
    )


def _record(name: str, expression: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"record": name, "expr": expression, "labels": labels}


def _selector(labels: dict[str, str]) -> str:
    return f'{{sloth_id="{labels["sloth_id"]}"}}'


def camel(name: str) -> str:
    """A name with hyphens as a part of an alert's name."""
    return "".join(part.capitalize() for part in name.split("-"))
