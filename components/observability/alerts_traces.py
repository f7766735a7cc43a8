"""Alerts of the OpenTelemetry gateway, by its own metrics and its span metrics. Pure data."""

from __future__ import annotations

from components.config.traces import GATEWAY
from components.observability.alert import Alert, Runbook
from components.observability.alerts_servers import running

PART = running(GATEWAY)
_CHECKS = (
    "forge status",
    f"forge logs {GATEWAY}",
    f"kubectl --namespace $namespace get pods --selector app.kubernetes.io/name={GATEWAY}",
)
ALERTS: tuple[Alert, ...] = (
    Alert(
        "SpansRefused",
        "sum(rate(otelcol_receiver_refused_spans_total[5m])) > 0",
        "5m",
        "ticket",
        "The OpenTelemetry gateway refuses spans because its memory is used up. Services drop spans after a few "
        "seconds; requests go on.",
        PART,
        Runbook(
            "More requests than the gateway's memory holds until they are decided, or many long streams at once.",
            _CHECKS,
            "Raise `observability.traces.gateway.memory`. Refused spans are lost, also for span metrics.",
        ),
    ),
    Alert(
        "SpansDropped",
        "sum by (exporter) (increase(otelcol_exporter_enqueue_failed_spans_total[10m])) > 0 "
        "or sum by (exporter) (increase(otelcol_exporter_send_failed_spans_total[10m])) > 0",
        "0m",
        "ticket",
        "The OpenTelemetry gateway drops spans for {{ $labels.exporter }}: its queue is full, or the receiver has "
        "refused spans for good.",
        PART,
        Runbook(
            "Jaeger or Langfuse is away for longer than the queue lasts, or refuses the credentials.",
            (*_CHECKS, "forge logs jaeger"),
            "Bring the receiver back: what is in the queue arrives by itself. Dropped spans are lost. A larger queue "
            "(`observability.traces.queue`) bridges a longer outage.",
        ),
    ),
    Alert(
        "SpanQueueNearlyFull",
        "max by (exporter) (otelcol_exporter_queue_size) / max by (exporter) (otelcol_exporter_queue_capacity) > 0.8",
        "1m",
        "ticket",
        "The queue of spans for {{ $labels.exporter }} is more than 80 % full. When it is full, spans are dropped; "
        "requests go on.",
        PART,
        Runbook(
            "The receiver is away or slower than spans arrive.",
            (*_CHECKS, "forge logs jaeger"),
            "Bring the receiver back. If it is only slow, give Jaeger more CPU, or keep fewer requests with "
            "`observability.traces.keepOneOf`.",
        ),
    ),
    Alert(
        "RequestsSampledEarly",
        "sum(increase(otelcol_request_sampling_early_requests_total[10m])) > 0",
        "0m",
        "ticket",
        "The OpenTelemetry gateway decides about requests before they are complete, because they fill its memory. "
        "Traces of failed requests may be missing.",
        PART,
        Runbook(
            "More requests or longer streams at once than its memory holds.",
            _CHECKS,
            "Raise `observability.traces.gateway.memory`.",
        ),
    ),
    Alert(
        "SpanMetricsOverflow",
        'sum by (service_name) (increase(span_calls_total{otel_metric_overflow="true"}[10m])) > 0',
        "0m",
        "ticket",
        "{{ $labels.service_name }} has more combinations of span name, status and model than span metrics keep. "
        "The calls of further ones are counted as one series.",
        PART,
        Runbook(
            "A service puts IDs, paths or other texts of clients into the names of its spans.",
            (f"forge logs {GATEWAY}", "forge status"),
            "Name spans after their operation. The counts begin anew when the gateway's pod restarts.",
        ),
    ),
)
