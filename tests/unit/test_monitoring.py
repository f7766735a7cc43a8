"""Alerts and dashboards: well formed, and about metrics that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.observability import alerts, monitoring
from tests.unit.test_platform import registered_of, stack_file
from tests.unit.test_schemas import mistakes

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
PARTS = frozenset(("kafka", "guardrails", "embeddings", "data"))
FOREIGN = {
    "kube_pod_container_status_restarts_total",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "kube_job_status_failed",
}
"""Of kube-state-metrics and the kubelet."""
FUNCTIONS = {"sum", "rate", "increase", "by", "and", "histogram_quantile", "predict_linear"}


def ours() -> set[str]:
    """Every metric that a service's code makes, as Prometheus names it."""
    found: set[str] = set()
    for path in SOURCES.glob("*/src/**/*.py"):
        for kind, name in re.findall(r'(Counter|Gauge|Histogram|Count|Spread)\(\s*"([a-z_]+)"', path.read_text()):
            counted = kind in ("Counter", "Count")
            found |= {name.removesuffix("_total") + "_total"} if counted else {name, f"{name}_bucket"}
    return found


def metrics(expression: str) -> set[str]:
    plain = re.sub(r'"[^"]*"', "", re.sub(r"\[[^]]*\]", "", expression))
    plain = re.sub(r"\b(by) \([^)]*\)", "", re.sub(r"\{[^}]*\}", "", plain))
    return set(re.findall(r"[a-z_]{3,}", plain)) - FUNCTIONS


EXPRESSIONS = {**{a.name: a.expression for a in alerts.ALERTS}, **{title: query for title, query, _ in alerts.PANELS}}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_it_asks_for_metrics_that_there_are(expression: str) -> None:
    asked = metrics(expression)
    assert asked
    assert asked <= ours() | FOREIGN
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


def test_alerts_of_parts_that_are_not_there_are_left_out() -> None:
    names = {rule["alert"] for rule in alerts.rules("n", frozenset())["groups"][0]["rules"]}
    assert "RouterErrorBudgetFast" in names and "UsageIsLost" not in names and "VolumeFills" not in names


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("PrometheusRule", alerts.rules("cogniforge", PARTS)), ("PodMonitor", monitoring.pod_monitor())],
)
def test_it_fits_the_operators_schema(kind: str, spec: dict[str, object]) -> None:
    resource = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert mistakes(resource) == []


def test_panels_lie_side_by_side() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in alerts.dashboard("n")["panels"]]
    assert len(set(places)) == len(places)


def test_an_environment_has_them_where_the_operator_is() -> None:
    content = stack_file("dev")
    content["observability"] = {**content.get("observability", {}), "prometheusOperator": True}
    kinds = {r.typ.rsplit(":", 1)[1] for r in registered_of(content)}
    assert {"PodMonitor", "PrometheusRule"} <= kinds
