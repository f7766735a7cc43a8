"""The observability section of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from components.config.base import Change, Section, matching, setting
from components.config.pod import Placement, pod_setting


class LogLevel(StrEnum):
    """Lowest level of log lines that services write."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Observability(Section):
    """The observability section of the configuration."""

    log_level: LogLevel = setting(
        Change.SAFE, "Lowest level that is logged: debug, info, warning or error", default=LogLevel.INFO, strict=False
    )
    otlp_endpoint: Annotated[
        str,
        matching(r"|https?://[^\s/]+(:\d+)?", "an http(s) URL without a path", 'write "http://collector:4318"'),
    ] = setting(Change.SAFE, "OTLP endpoint that receives traces; empty sends no traces", default="")
    trace_sample_ratio: float = setting(Change.SAFE, "Share of requests that are traced", default=1.0, ge=0, le=1)
    prometheus_operator: bool = setting(
        Change.SAFE,
        "Whether the cluster runs the Prometheus operator; true adds monitors, alerts and a dashboard",
        default=False,
    )
    pod: Placement = pod_setting(Placement, "Pods of the end-to-end check and the isolation check")

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
