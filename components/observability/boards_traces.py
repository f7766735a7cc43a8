"""Dashboard of the OpenTelemetry gateway, by its own metrics and its span metrics. Pure data."""

from __future__ import annotations

from components.config.traces import GATEWAY
from components.observability.alerts_traces import PART
from components.observability.boards import FOLDER
from components.observability.panel import Board, panel, rate, usage, volumes

BOARD = Board(
    GATEWAY,
    "Traces",
    "Whether spans arrive, why requests are kept, and whether queues have room.",
    FOLDER,
    (
        panel(
            "Calls per second, by service",
            "Spans of all requests, counted before most requests are left out.",
            "reqps",
            (rate("span_calls_total", "service_name"), "{{service_name}}"),
        ),
        panel(
            "Decided requests per second, by reason",
            "`not_kept` are left out. The other reasons say why a request is kept.",
            "reqps",
            (rate("otelcol_request_sampling_requests_total", "reason"), "{{reason}}"),
        ),
        panel(
            "Bytes in queues",
            "Spans that wait for a receiver, and the room for them. A full queue drops spans; requests go on.",
            "bytes",
            ("max by (exporter) (otelcol_exporter_queue_size)", "{{exporter}} waiting"),
            ("max by (exporter) (otelcol_exporter_queue_capacity)", "{{exporter}} capacity"),
        ),
        *usage(f"{GATEWAY}-[0-9]+"),
        volumes(f"data-{GATEWAY}-[0-9]+"),
    ),
    PART,
)
