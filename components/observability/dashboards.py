"""Grafana dashboards of the services, the data layer and the security parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.observability import alerts_data, alerts_security, alerts_traces
from components.observability.alert import Panel
from components.observability.alerts import by_name
from components.services.record import ServiceRecord

PANELS: tuple[Panel, ...] = (
    Panel(
        "Requests for models per second, by status",
        "sum by (status) (rate(router_requests_total[$__rate_interval]))",
        "reqps",
    ),
    Panel(
        "Failed calls of targets per second",
        'sum by (target) (rate(router_upstream_requests_total{outcome="failed"}[$__rate_interval]))',
        "reqps",
    ),
    Panel("Answers from the cache", "sum by (result) (rate(router_cache_requests_total[$__rate_interval]))", "reqps"),
    Panel(
        "Guardrails: checks per second, by action",
        "sum by (direction, action) (rate(router_guardrails_total[$__rate_interval]))",
        "reqps",
    ),
    Panel("Error budgets left, of 30 days", "slo:period_error_budget_remaining:ratio", "percentunit"),
    Panel("Pace at which error budgets are used", "slo:current_burn_rate:ratio", "short"),
    Panel(
        "Services: requests per second",
        "sum by (job, status) (rate(http_server_requests_total[$__rate_interval]))",
        "reqps",
    ),
    Panel(
        "Services: 95th percentile of latency",
        "histogram_quantile(0.95, sum by (job, le) "
        "(rate(http_server_request_duration_seconds_bucket[$__rate_interval])))",
        "s",
    ),
)
VOLUMES = Panel("Volumes: free space", 'kubelet_volume_stats_available_bytes{namespace="$namespace"}', "bytes", "data")


def panels(records: Iterable[ServiceRecord]) -> tuple[Panel, ...]:
    """All panels but the data layer's, with those that the records of services bring; volumes come last."""
    return (*PANELS, *(panel for record in by_name(records) for panel in record.panels), VOLUMES)


def dashboards(namespace: str, parts: frozenset[str], records: Iterable[ServiceRecord]) -> dict[str, dict[str, Any]]:
    """Grafana dashboards by name: services, and the data layer if it is enabled."""
    found = {"cogniforge": _dashboard("cogniforge", "CogniForge", panels(records), namespace, parts)}
    kept = (*alerts_data.PANELS, *alerts_security.PANELS, *alerts_traces.PANELS)
    data = _dashboard("cogniforge-data", "CogniForge: data", kept, namespace, parts)
    return found | ({"cogniforge-data": data} if data["panels"] else {})


def _dashboard(
    uid: str, title: str, panels: tuple[Panel, ...], namespace: str, parts: frozenset[str]
) -> dict[str, Any]:
    """A dashboard with two panels per row."""
    wanted = [panel for panel in panels if not panel.part or panel.part in parts]
    drawn: list[dict[str, Any]] = [
        {
            "id": number + 1,
            "title": panel.title,
            "type": "timeseries",
            "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "targets": [{"refId": "A", "expr": panel.query.replace("$namespace", namespace)}],
        }
        for number, panel in enumerate(wanted)
    ]
    return {"title": title, "uid": uid, "schemaVersion": 39, "time": {"from": "now-6h", "to": "now"}, "panels": drawn}
