"""Alerts are valid, and use existing metrics."""

from __future__ import annotations

import pytest

from components.observability import alerts, alerts_data, boards_data, monitoring, objective
from components.observability.alert import Alert, metrics
from components.services import registry
from tests.known_metrics import FOREIGN, ours
from tests.unit.test_platform import registered_of, stack_file
from tests.unit.test_schemas import mistakes

pytestmark = pytest.mark.xdist_group("tree")

DATA_PARTS = frozenset(("postgres", "kafka", "nats", "cache", "object-store", "schema-registry", "change-data-capture"))
PARTS = DATA_PARTS | {"guardrails", "embeddings", "data"}


def asked(alert_list: tuple[Alert, ...]) -> dict[str, str]:
    return {a.name: a.expression for a in alert_list}


RECORDS = tuple(registry.SERVICES.values())
SERVICES = asked(alerts.alerts(RECORDS))
DATA = asked(alerts_data.ALERTS)


@pytest.mark.parametrize("expression", SERVICES.values(), ids=SERVICES)
def test_its_queries_use_existing_metrics(expression: str) -> None:
    found = metrics(expression)
    assert found
    assert found <= ours() | FOREIGN | objective.recorded()


@pytest.mark.parametrize("expression", (SERVICES | DATA).values(), ids=SERVICES | DATA)
def test_brackets_are_closed(expression: str) -> None:
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


@pytest.mark.parametrize("part", sorted(DATA_PARTS))
def test_every_data_part_has_an_alert_and_a_dashboard(part: str) -> None:
    assert {part} <= {a.part for a in alerts_data.ALERTS} & {board.name for board in boards_data.BOARDS}


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


def test_an_environment_has_them_where_the_operator_is() -> None:
    content = stack_file("dev")
    content["observability"] = {**content.get("observability", {}), "prometheusOperator": True}
    kinds = {r.typ.rsplit(":", 1)[1] for r in registered_of(content)}
    assert {"PodMonitor", "PrometheusRule"} <= kinds
