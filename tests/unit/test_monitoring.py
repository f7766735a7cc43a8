"""Alerts and dashboards are valid, and use existing metrics."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.observability import alerts, alerts_data, dashboards, monitoring, objective
from components.observability.alert import Alert, Panel, metrics
from components.services import registry
from tests.unit.test_platform import registered_of, stack_file
from tests.unit.test_schemas import mistakes

pytestmark = pytest.mark.xdist_group("tree")

SOURCES = Path(__file__).resolve().parents[2] / "service_images"
DATA_PARTS = frozenset(("postgres", "kafka", "nats", "cache", "object-store", "schema-registry", "change-data-capture"))
PARTS = DATA_PARTS | {"guardrails", "embeddings", "data"}
FOREIGN = {
    "kube_pod_container_status_restarts_total",
    "kubelet_volume_stats_available_bytes",
    "kubelet_volume_stats_capacity_bytes",
    "kube_job_status_failed",
}
"""Metrics of kube-state-metrics and the kubelet."""


def ours() -> set[str]:
    """Every metric in a service's code, with Prometheus' names."""
    found: set[str] = set()
    for path in SOURCES.glob("*/src/**/*.py"):
        for kind, name in re.findall(r'(Counter|Gauge|Histogram|Count|Spread)\(\s*"([a-z_]+)"', path.read_text()):
            counted = kind in ("Counter", "Count")
            found |= {name.removesuffix("_total") + "_total"} if counted else {name, f"{name}_bucket"}
    return found


def asked(alert_list: tuple[Alert, ...], panels: tuple[Panel, ...]) -> dict[str, str]:
    return {**{a.name: a.expression for a in alert_list}, **{p.title: p.query for p in panels}}


RECORDS = tuple(registry.SERVICES.values())
SERVICES = asked(alerts.alerts(RECORDS), dashboards.panels(RECORDS))
DATA = asked(alerts_data.ALERTS, alerts_data.PANELS)


@pytest.mark.parametrize("expression", SERVICES.values(), ids=SERVICES)
def test_its_queries_use_existing_metrics(expression: str) -> None:
    found = metrics(expression)
    assert found
    assert found <= ours() | FOREIGN | objective.recorded()


@pytest.mark.parametrize("expression", (SERVICES | DATA).values(), ids=SERVICES | DATA)
def test_brackets_are_closed(expression: str) -> None:
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


@pytest.mark.parametrize("part", sorted(DATA_PARTS))
def test_every_data_part_has_an_alert_and_a_panel(part: str) -> None:
    assert {part} <= {a.part for a in alerts_data.ALERTS} & {p.part for p in alerts_data.PANELS}


def test_alerts_of_parts_that_are_not_there_are_left_out() -> None:
    names = {rule["alert"] for rule in alerts.rules("n", frozenset(), RECORDS)["groups"][0]["rules"]}
    assert "PodRestarts" in names and "UsageEventsDropped" not in names and "VolumeAlmostFull" not in names


@pytest.mark.parametrize(
    ("kind", "spec"),
    [("PrometheusRule", alerts.rules("cogniforge", PARTS, RECORDS)), ("PodMonitor", monitoring.pod_monitor())],
)
def test_it_fits_the_operators_schema(kind: str, spec: dict[str, object]) -> None:
    resource = {"apiVersion": "monitoring.coreos.com/v1", "kind": kind, "metadata": {"name": "x"}, "spec": spec}
    assert mistakes(resource) == []


def test_panels_lie_side_by_side() -> None:
    for board in dashboards.dashboards("n", PARTS, RECORDS).values():
        places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
        assert len(set(places)) == len(places)


def test_an_environment_without_data_has_no_board_for_it() -> None:
    assert set(dashboards.dashboards("n", frozenset(), RECORDS)) == {"cogniforge"}


def test_an_environment_has_them_where_the_operator_is() -> None:
    content = stack_file("dev")
    content["observability"] = {**content.get("observability", {}), "prometheusOperator": True}
    kinds = {r.typ.rsplit(":", 1)[1] for r in registered_of(content)}
    assert {"PodMonitor", "PrometheusRule"} <= kinds
