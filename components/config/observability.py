"""The observability section of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from components.config.base import Change, Resources, Section, matching, setting
from components.config.data import Storage
from components.config.grafana import Grafana
from components.config.logs import Logs
from components.config.pod import Placement, pod_setting
from components.config.problems import violation
from components.config.traces import Traces
from components.config.web import SERVER, destination


class LogLevel(StrEnum):
    """Lowest level of log lines that services write."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Webhook = Annotated[
    str,
    Field(max_length=2000),
    matching(
        rf"|{SERVER}(/[^\s]*)?",
        "an http(s) URL without a user",
        'write "https://pager.example.com/alerts"',
    ),
]


class Prometheus(Section):
    """Prometheus with Alertmanager, which the platform runs itself."""

    storage: Storage = setting(Change.SAFE, "Volume for metrics and silences", default="5Gi")
    keep_days: int = setting(
        Change.SAFE, "Days that metrics are kept, if the volume holds them; budgets need 30", default=35, ge=1, le=400
    )
    resources: Resources = setting(Change.DISRUPTIVE, "Of the server", default=Resources(cpu="50m", memory="512Mi"))
    webhook: Webhook = setting(
        Change.SAFE, "URL that receives alerts, in Alertmanager's JSON; empty sends none", default=""
    )


class Observability(Section):
    """The observability section of the configuration."""

    log_level: LogLevel = setting(
        Change.SAFE, "Lowest level that is logged: debug, info, warning or error", default=LogLevel.INFO, strict=False
    )
    otlp_endpoint: Annotated[
        str,
        matching(rf"|{SERVER}", "an http(s) URL without a user or path", 'write "http://collector:4318"'),
    ] = setting(Change.SAFE, "OTLP endpoint that receives traces; empty sends no traces", default="")
    trace_sample_ratio: float = setting(Change.SAFE, "Share of requests that are traced", default=1.0, ge=0, le=1)
    prometheus_operator: bool = setting(
        Change.SAFE,
        "Whether the cluster runs the Prometheus operator; true adds monitors, alerts and a dashboard",
        default=False,
    )
    prometheus: Prometheus | None = setting(
        Change.DISRUPTIVE, "Prometheus and Alertmanager, for a cluster without an operator of theirs", default=None
    )
    logs: Logs | None = setting(
        Change.DISRUPTIVE, "Collection of the platform's log lines, and a store that answers questions", default=None
    )
    traces: Traces | None = setting(
        Change.DISRUPTIVE,
        "OpenTelemetry gateway and Jaeger, which receive the traces of all services in place of otlpEndpoint",
        default=None,
    )
    grafana: Grafana | None = setting(
        Change.DISRUPTIVE, "Grafana with the platform's dashboards; needs security.keycloak", default=None
    )
    pod: Placement = pod_setting(
        Placement,
        "Pods of the end-to-end check, the isolation check, Prometheus, the log store, Jaeger, its gateway and Grafana",
    )

    @model_validator(mode="after")
    def _one_collector(self) -> Self:
        if self.prometheus and self.prometheus_operator:
            raise violation(
                "prometheus or prometheusOperator: both would raise each alert twice", "remove one of the two"
            )
        return self

    @model_validator(mode="after")
    def _one_receiver(self) -> Self:
        if self.traces and self.otlp_endpoint:
            raise violation("traces or otlpEndpoint: services send their spans to one of them", "remove one of the two")
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that its parts run."""
        found = (part.images for part in (self.logs, self.traces) if part)
        return tuple(
            dict.fromkeys((*(("prometheus",) if self.prometheus else ()), *(one for own in found for one in own)))
        )

    @property
    def spans_endpoint(self) -> str:
        """OTLP endpoint that services send their spans to; empty: none."""
        return self.traces.endpoint if self.traces else self.otlp_endpoint

    @property
    def collector(self) -> tuple[tuple[str, int] | None, tuple[int, ...]]:
        """Where traces go: (namespace, TCP port) for a Service of the cluster, and ports for hosts elsewhere."""
        return destination(self.otlp_endpoint)
