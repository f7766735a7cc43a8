"""Alerts and dashboard panels for the services. Pure data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.observability import alerts_data, alerts_security, objective
from components.observability.alert import Alert, Panel
from components.observability.objective import Indicator
from components.services.record import ServiceRecord

_ALERTS: tuple[Alert, ...] = (
    Alert("UsageEventsDropped", 'increase(events_lost_total{topic="usage.recorded.v1"}[10m]) > 0', "0m", "page",
          "Usage events were dropped and will not be billed. Check Kafka and the Router's log.", "kafka"),
    Alert("UpstreamUsageMissing", 'sum by (model, target) (rate(router_usage_estimated_total{cause="not_reported"}[10m])) > 0',
          "10m", "ticket", "{{ $labels.target }} reports no usage for {{ $labels.model }}: the Router estimates the "
          "tokens. Configure the upstream to report them.", ""),
    Alert("EventsDropped", 'sum by (job, topic) (increase(events_lost_total{topic!="usage.recorded.v1"}[10m])) > 0', "0m", "page",
          "{{ $labels.job }} dropped events of {{ $labels.topic }}, which the audit log will lack. Check Kafka.",
          "kafka"),
    Alert("DeadLettersWaiting", "max by (job, topic) (dead_letters_waiting) > 0", "0m", "ticket",
          "{{ $labels.job }} has dead letters of {{ $labels.topic }}, which it could not process: "
          "`forge dead-letters list` shows them.", ""),
    Alert("EventConsumerStuck", "max by (job) (events_stuck_seconds) > 30", "0m", "page",
          "{{ $labels.job }} keeps retrying the same events: its database is unavailable or full. No event is lost.",
          "kafka"),
    Alert("EventSpillFillingUp", "predict_linear(events_spilled_bytes[10m], 3600) > events_spill_limit_bytes or "
          "events_spilled_bytes > 0.5 * events_spill_limit_bytes", "0m", "page",
          "{{ $labels.pod }} stores events on disk, because Kafka is unavailable. The space lasts less than an hour; "
          "then the Router drops usage events, and Guardrails drops audit events.", "kafka"),
    Alert("KeyRevocationsStale", "router_keys_away_seconds > 30", "0m", "page",
          "{{ $labels.pod }} does not receive revocations of keys, since NATS is unavailable. Revoked keys stay valid "
          "for up to five minutes; then User must confirm each key.", "data"),
    Alert("ConfigurationNotApplied", "max by (job, bucket, why) (followers_lagging) > 0", "0m", "page",
          "Replicas have not applied values of {{ $labels.job }} in bucket {{ $labels.bucket }} ({{ $labels.why }}): "
          "the operation `replicas` of {{ $labels.job }} shows the replicas and the reason.", ""),
    Alert("ConfigurationFeedDown", "max by (job, bucket) (bucket_away_seconds) > 30", "0m", "page",
          "A replica of {{ $labels.job }} receives no changes of bucket {{ $labels.bucket }}, because NATS is "
          "unavailable. It continues with its last values.", "data"),
    Alert("ServiceCallsRefused",
          'sum by (job, outcome) (increase(service_identity_total{outcome!="admitted"}[10m])) > 0', "0m", "page",
          "{{ $labels.job }} refuses calls of services ({{ $labels.outcome }}): a caller is not allowed, or a service "
          "lacks its token. The log names the refused accounts.", ""),
    Alert("UpstreamErrorRateHigh", 'sum by (target) (rate(router_upstream_requests_total{outcome="failed"}[10m])) / '
          "sum by (target) (rate(router_upstream_requests_total[10m])) > 0.1", "10m", "ticket",
          "More than 10 % of the requests to {{ $labels.target }} fail.", ""),
    Alert("PodRestarts", 'increase(kube_pod_container_status_restarts_total{namespace="$namespace"}[30m]) > 3', "0m",
          "ticket", "{{ $labels.pod }} restarted more than three times within 30 minutes.", ""),
    Alert("VolumeAlmostFull", 'kubelet_volume_stats_available_bytes{namespace="$namespace"} / '
          'kubelet_volume_stats_capacity_bytes{namespace="$namespace"} < 0.15', "10m", "page",
          "{{ $labels.persistentvolumeclaim }} has less than 15 % of free space; a full volume stops writes.", "data"),
    Alert("VolumeFillingUp", 'predict_linear(kubelet_volume_stats_available_bytes{namespace="$namespace"}[6h], 259200) < 0',
          "1h", "ticket", "{{ $labels.persistentvolumeclaim }} will be full within three days.", "data"),
    Alert("BackupOrTaskFailed", 'kube_job_status_failed{namespace="$namespace"} > 0', "5m", "ticket",
          "{{ $labels.job_name }} has failed; see its log with `kubectl logs`.", "data"),
)  # fmt: skip
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
        "histogram_quantile(0.95, sum by (job, le) (rate(http_server_request_duration_seconds_bucket[$__rate_interval])))",
        "s",
    ),
)
VOLUMES = Panel("Volumes: free space", 'kubelet_volume_stats_available_bytes{namespace="$namespace"}', "bytes", "data")


def alerts(records: Iterable[ServiceRecord]) -> tuple[Alert, ...]:
    """All alerts but the data layer's, with those that the records of services bring."""
    ordered = _by_name(records)
    own = (alert for record in ordered for alert in record.alerts)
    return (*_ALERTS, *own)


def panels(records: Iterable[ServiceRecord]) -> tuple[Panel, ...]:
    """All panels but the data layer's, with those that the records of services bring; volumes come last."""
    return (*PANELS, *(panel for record in _by_name(records) for panel in record.panels), VOLUMES)


def indicators(record: ServiceRecord) -> tuple[Indicator, ...]:
    """Indicators of a service's objectives: its own ones, or else those by the metrics that the kit exports.

    A user's own service may have other buckets than the kit, so an alert of its record watches its latency.
    """
    aim, name = record.objectives, record.name
    if record.indicators:
        return record.indicators
    found = (objective.availability(name, aim.availability),)
    if record.custom or aim.latency_seconds is None:
        return found
    slow = f"answers take more than {aim.latency_seconds:g} s"
    histogram, labels = "http_server_request_duration_seconds", f'job="{name}"'
    return (*found, objective.latency(histogram, labels, aim.latency_seconds, aim.latency_share, "latency", slow))


def _by_name(records: Iterable[ServiceRecord]) -> list[ServiceRecord]:
    return sorted(records, key=lambda record: record.name)


def rules(namespace: str, parts: frozenset[str], records: Iterable[ServiceRecord]) -> dict[str, Any]:
    """The spec of a PrometheusRule with the alerts of the parts that are enabled, and the objectives of the services."""
    ordered = [record for record in _by_name(records) if record.metrics and record.name in parts]
    objectives = [
        group for record in ordered for group in objective.groups(record.name, record.title, indicators(record))
    ]
    everything = (*alerts(records), *alerts_data.ALERTS, *alerts_security.ALERTS)
    wanted = [alert for alert in everything if not alert.part or alert.part in parts]
    return {
        "groups": [
            {
                "name": "cogniforge",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expression.replace("$namespace", namespace),
                        "for": alert.lasts,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary},
                    }
                    for alert in wanted
                ],
            },
            *objectives,
        ]
    }


def dashboards(namespace: str, parts: frozenset[str], records: Iterable[ServiceRecord]) -> dict[str, dict[str, Any]]:
    """Grafana dashboards by name: services, and the data layer if it is enabled."""
    found = {"cogniforge": _dashboard("cogniforge", "CogniForge", panels(records), namespace, parts)}
    kept = (*alerts_data.PANELS, *alerts_security.PANELS)
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
