"""The observability section of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from components.config.base import Change, Resources, Section, matching, setting
from components.config.data import Storage
from components.config.pod import Placement, pod_setting
from components.config.problems import violation


class LogLevel(StrEnum):
    """Lowest level of log lines that services write."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


_PORT = r"(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?"
_SERVER = rf"https?://(\[[0-9A-Fa-f:]+\]|[^\s/@:\[\]]+){_PORT}"
Webhook = Annotated[
    str,
    Field(max_length=2000),
    matching(
        rf"|{_SERVER}(/[^\s]*)?",
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
        matching(rf"|{_SERVER}", "an http(s) URL without a user or path", 'write "http://collector:4318"'),
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
    pod: Placement = pod_setting(Placement, "Pods of the end-to-end check, the isolation check and Prometheus")

    @model_validator(mode="after")
    def _one_collector(self) -> Self:
        if self.prometheus and self.prometheus_operator:
            raise violation(
                "prometheus or prometheusOperator: both would raise each alert twice", "remove one of the two"
            )
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that its parts run."""
        return ("prometheus",) if self.prometheus else ()

    @property
    def collector(self) -> tuple[tuple[str, int] | None, tuple[int, ...]]:
        """Where traces go: (namespace, TCP port) for a Service of the cluster, and ports for hosts elsewhere."""
        url = urlsplit(self.otlp_endpoint)
        if not url.hostname:
            return None, ()
        port = url.port or (443 if url.scheme == "https" else 80)
        service, _, rest = url.hostname.partition(".")
        namespace, _, suffix = rest.partition(".")
        if service and namespace and (not suffix or suffix.split(".")[0] == "svc"):
            return (namespace, port), ()
        return None, (port,)
