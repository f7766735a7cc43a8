"""Alerts of all parts, and the rules that are made of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from components.observability import alerts_data, alerts_mesh, alerts_security, alerts_servers, alerts_traces, objective
from components.observability.alert import Alert, Runbook, within
from components.observability.objective import Indicator
from components.services.record import ServiceRecord

_ALERTS: tuple[Alert, ...] = (
    Alert(
        "UsageEventsDropped",
        'increase(events_lost_total{topic="usage.recorded.v1"}[10m]) > 0',
        "0m",
        "page",
        "Usage events were dropped and will not be billed. Check Kafka and the Router's log.",
        "kafka",
        Runbook(
            "Kafka was away for longer than the Router's disk holds events, or refuses them, or the Router's "
            "volume is full.",
            (
                "forge status",
                "forge logs kafka",
                "forge logs router",
            ),
            "Bring Kafka back. The dropped events are lost and cannot be billed; events_lost_total says how many they are.",
        ),
    ),
    Alert(
        "UpstreamUsageMissing",
        'sum by (model, target) (rate(router_usage_estimated_total{cause="not_reported"}[10m])) > 0',
        "10m",
        "ticket",
        "{{ $labels.target }} reports no usage for {{ $labels.model }}: the Router estimates the "
        "tokens. Configure the upstream to report them.",
        "",
        Runbook(
            "The upstream does not report tokens, which most servers do only when they are asked: "
            "`stream_options.include_usage` for streams, a flag of the server for others.",
            ("forge logs router",),
            "Configure the upstream to report usage. Until then, invoices contain the Router's estimate, marked as "
            "estimated.",
        ),
    ),
    Alert(
        "EventsDropped",
        'sum by (job, topic) (increase(events_lost_total{topic!="usage.recorded.v1"}[10m])) > 0',
        "0m",
        "page",
        "{{ $labels.job }} dropped events of {{ $labels.topic }}, which the audit log will lack. Check Kafka.",
        "kafka",
        Runbook(
            "Kafka was away for longer than the service's disk holds events, or its volume is full.",
            (
                "forge status",
                "forge logs kafka",
                "forge logs {{ $labels.job }}",
            ),
            "Bring Kafka back. The dropped events are lost, and the audit log lacks them.",
        ),
    ),
    Alert(
        "DeadLettersWaiting",
        "max by (job, topic) (dead_letters_waiting) > 0",
        "0m",
        "ticket",
        "{{ $labels.job }} has dead letters of {{ $labels.topic }}, which it could not process: "
        "`forge dead-letters list` shows them.",
        "",
        Runbook(
            "An event does not match its schema, or names an object that does not exist any more. Each letter "
            "contains its reason.",
            (
                "forge dead-letters list",
                "forge logs {{ $labels.job }}",
            ),
            "Remove the cause, then run `forge dead-letters retry`. `forge dead-letters drop` gives an event up.",
        ),
    ),
    Alert(
        "EventConsumerStuck",
        "max by (job) (events_stuck_seconds) > 30",
        "0m",
        "page",
        "{{ $labels.job }} keeps retrying the same events: its database is unavailable or full. No event is lost.",
        "kafka",
        Runbook(
            "The service's database is unavailable, or its volume is full, so that it cannot store what it reads.",
            (
                "forge status",
                "forge logs {{ $labels.job }}",
                "forge logs postgres",
                "kubectl --namespace $namespace get persistentvolumeclaims",
            ),
            "Bring the database back, or enlarge its volume (`data.postgres.storage`). The consumer continues by "
            "itself.",
        ),
    ),
    Alert(
        "EventSpillFillingUp",
        "predict_linear(events_spilled_bytes[10m], 3600) > events_spill_limit_bytes or "
        "events_spilled_bytes > 0.5 * events_spill_limit_bytes",
        "0m",
        "page",
        "{{ $labels.pod }} stores events on disk, because Kafka is unavailable. The space lasts less than an hour; "
        "then the Router drops usage events, and Guardrails drops audit events.",
        "kafka",
        Runbook(
            "Kafka is unavailable, and events wait on the pod's disk.",
            (
                "forge status",
                "forge logs kafka",
                "kubectl --namespace $namespace get pods",
            ),
            "Bring Kafka back within the hour. The waiting events are then sent in order.",
        ),
    ),
    Alert(
        "KeyRevocationsStale",
        "router_keys_away_seconds > 30",
        "0m",
        "page",
        "{{ $labels.pod }} does not receive revocations of keys, since NATS is unavailable. Revoked keys stay valid "
        "for up to five minutes; then User must confirm each key.",
        "data",
        Runbook(
            "NATS is down, or a network policy blocks the Router from it.",
            (
                "forge status",
                "forge logs nats",
                "forge logs router",
            ),
            "Bring NATS back. If a key must stop working at once, revoke it and delete the Router's pods: they "
            "confirm each key with User.",
        ),
    ),
    Alert(
        "ConfigurationNotApplied",
        "max by (job, bucket, why) (followers_lagging) > 0",
        "0m",
        "page",
        "Replicas have not applied values of {{ $labels.job }} in bucket {{ $labels.bucket }} ({{ $labels.why }}): "
        "the operation `replicas` of {{ $labels.job }} shows the replicas and the reason.",
        "",
        Runbook(
            "A replica refuses a value that a newer version has written, or hangs.",
            (
                "forge status",
                "forge logs {{ $labels.job }}",
                "kubectl --namespace $namespace get pods --selector app.kubernetes.io/name={{ $labels.job }}",
            ),
            "If the replicas run different versions, finish the update with `forge up`. If one hangs, delete its "
            "pod: it reads all values when it starts.",
        ),
    ),
    Alert(
        "ConfigurationFeedDown",
        "max by (job, bucket) (bucket_away_seconds) > 30",
        "0m",
        "page",
        "A replica of {{ $labels.job }} receives no changes of bucket {{ $labels.bucket }}, because NATS is "
        "unavailable. It continues with its last values.",
        "data",
        Runbook(
            "NATS is down, or a network policy blocks the service from it.",
            (
                "forge status",
                "forge logs nats",
                "forge logs {{ $labels.job }}",
            ),
            "Bring NATS back. The replica then reads the changes that it missed.",
        ),
    ),
    Alert(
        "ServiceCallsRefused",
        'sum by (job, outcome) (increase(service_identity_total{outcome!="admitted"}[10m])) > 0',
        "0m",
        "page",
        "{{ $labels.job }} refuses calls of services ({{ $labels.outcome }}): a caller is not allowed, or a service "
        "lacks its token. The log names the refused accounts.",
        "",
        Runbook(
            "A program without a service's token calls the service, or a service calls another one that does not "
            "list it as a caller.",
            (
                "forge logs {{ $labels.job }}",
                "forge drift",
            ),
            "If the refused account belongs to a service of yours, add it to the callers in the record. Otherwise, "
            "find the pod that calls: nothing unknown should reach this port.",
        ),
    ),
    Alert(
        "IssuedLoginNotRenewed",
        # A login lasts an hour and is renewed after 20 minutes; a service without one shows 0.
        "min by (job, system) ((issued_login_expires_timestamp_seconds > 0) - time()) < 1800",
        "0m",
        "page",
        "{{ $labels.job }} could not renew its login for {{ $labels.system }}, which ends in less than 30 minutes.",
        alerts_security.PART,
        Runbook(
            "The secret store is down or sealed, or does not let the service log in.",
            ("forge status", "forge logs secret-store", "forge logs {{ $labels.job }}"),
            "Bring the secret store back. The service then renews its login, and answers until the login ends.",
        ),
    ),
    Alert(
        "UpstreamErrorRateHigh",
        'sum by (target) (rate(router_upstream_requests_total{outcome="failed"}[10m])) / '
        "sum by (target) (rate(router_upstream_requests_total[10m])) > 0.1",
        "10m",
        "ticket",
        "More than 10 % of the requests to {{ $labels.target }} fail.",
        "",
        Runbook(
            "The model server is overloaded or broken, or the credential of an external model is not valid any more.",
            (
                "forge status",
                "forge logs router",
                "kubectl --namespace $namespace get pods",
            ),
            "Repair the target, or take it out of the route (`POST /v1/admin/routes/{model}/withdraw`).",
        ),
    ),
    Alert(
        "PodRestarts",
        'increase(kube_pod_container_status_restarts_total{namespace="$namespace"}[30m]) > 3',
        "0m",
        "ticket",
        "{{ $labels.pod }} restarted more than three times within 30 minutes.",
        "",
        Runbook(
            "The container is killed for its memory, or its process ends with an error.",
            (
                "kubectl --namespace $namespace describe pod {{ $labels.pod }}",
                "kubectl --namespace $namespace logs {{ $labels.pod }} --all-containers --tail 50",
            ),
            "After `OOMKilled`, raise the part's `resources.memory` and run `forge up`. Otherwise, the log of the "
            "previous container (`kubectl logs --previous`) has the error.",
        ),
    ),
    Alert(
        "VolumeAlmostFull",
        'kubelet_volume_stats_available_bytes{namespace="$namespace"} / '
        'kubelet_volume_stats_capacity_bytes{namespace="$namespace"} < 0.15',
        "10m",
        "page",
        "{{ $labels.persistentvolumeclaim }} has less than 15 % of free space; a full volume stops writes.",
        "data",
        Runbook(
            "The data have grown, or retention is longer than the volume allows.",
            (
                "kubectl --namespace $namespace get persistentvolumeclaim {{ $labels.persistentvolumeclaim }}",
                "forge status",
            ),
            "Raise the part's `storage` in the stack file and run `forge up`: volumes grow without a restart where "
            "the storage class allows it. Or shorten the retention.",
        ),
    ),
    Alert(
        "VolumeFillingUp",
        'predict_linear(kubelet_volume_stats_available_bytes{namespace="$namespace"}[6h], 259200) < 0',
        "1h",
        "ticket",
        "{{ $labels.persistentvolumeclaim }} will be full within three days.",
        "data",
        Runbook(
            "The data grow faster than retention removes them.",
            (
                "kubectl --namespace $namespace get persistentvolumeclaim {{ $labels.persistentvolumeclaim }}",
                "forge status",
            ),
            "Raise the part's `storage` in the stack file, or shorten its retention, and run `forge up`.",
        ),
    ),
    Alert(
        "BackupOrTaskFailed",
        'kube_job_status_failed{namespace="$namespace"} > 0',
        "5m",
        "ticket",
        "{{ $labels.job_name }} has failed; see its log with `kubectl logs`.",
        "data",
        Runbook(
            "The task cannot reach its server, or the object store for backups refuses it.",
            (
                "kubectl --namespace $namespace describe job {{ $labels.job_name }}",
                "kubectl --namespace $namespace logs job/{{ $labels.job_name }} --tail 50",
            ),
            "Remove the cause. A task of an update runs again with the next `forge up`, a backup at its next time.",
        ),
    ),
)


def alerts(records: Iterable[ServiceRecord]) -> tuple[Alert, ...]:
    """All alerts but the data layer's, with those that the records of services bring."""
    ordered = by_name(records)
    own = (alert for record in ordered for alert in record.alerts)
    return (*_ALERTS, *own)


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


def by_name(records: Iterable[ServiceRecord]) -> list[ServiceRecord]:
    """Records in a stable order."""
    return sorted(records, key=lambda record: record.name)


def _everything(records: Iterable[ServiceRecord]) -> tuple[Alert, ...]:
    return (
        *alerts(records),
        *alerts_data.ALERTS,
        *alerts_mesh.ALERTS,
        *alerts_servers.ALERTS,
        *alerts_security.ALERTS,
        *alerts_traces.ALERTS,
    )


def runbooks(namespace: str, records: Iterable[ServiceRecord]) -> dict[str, dict[str, Any]]:
    """Rules of all alerts by name, whichever parts are enabled."""
    known = list(records)
    everything = _everything(known)
    parts = frozenset((*(alert.part for alert in everything), *(record.name for record in known)))
    found = [rule for group in rules(namespace, parts, known)["groups"] for rule in group["rules"]]
    return {rule["alert"]: rule for rule in found if "alert" in rule}


def rules(namespace: str, parts: frozenset[str], records: Iterable[ServiceRecord]) -> dict[str, Any]:
    """The spec of a PrometheusRule with the alerts of the parts that are enabled, and the objectives of the services."""
    ordered = [record for record in by_name(records) if record.metrics and record.name in parts]
    objectives = [
        group for record in ordered for group in objective.groups(record.name, record.title, indicators(record))
    ]
    wanted = [alert for alert in _everything(records) if not alert.part or alert.part in parts]
    general = [
        {
            "alert": alert.name,
            "expr": alert.expression,
            "for": alert.lasts,
            "labels": {"severity": alert.severity},
            "annotations": {"summary": alert.summary, **alert.runbook.annotations()},
        }
        for alert in wanted
    ]
    groups: list[dict[str, Any]] = [{"name": "cogniforge", "rules": general}, *objectives]
    return {"groups": [{**group, "rules": [_within(namespace, rule) for rule in group["rules"]]} for group in groups]}


def _within(namespace: str, rule: dict[str, Any]) -> dict[str, Any]:
    """A rule with the namespace in its expression and its texts."""
    placed = {**rule, "expr": within(namespace, rule["expr"])}
    if texts := rule.get("annotations"):
        placed["annotations"] = {name: within(namespace, text) for name, text in texts.items()}
    return placed
