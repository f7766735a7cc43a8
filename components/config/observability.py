"""Logs, traces and metrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from components.config.base import Change, Section, matching, setting


class LogLevel(StrEnum):
    """How much the services log."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Observability(Section):
    """Logs and traces."""

    log_level: LogLevel = setting(Change.SAFE, "How much is logged", default=LogLevel.INFO, strict=False)
    otlp_endpoint: Annotated[
        str,
        matching(r"|https?://[^\s/]+(:\d+)?", "an http(s) URL without a path", 'write "http://collector:4318"'),
    ] = setting(Change.SAFE, "Where traces go; empty: nowhere", default="")
    trace_sample_ratio: float = setting(Change.SAFE, "Share of requests traced", default=1.0, ge=0, le=1)
    prometheus_operator: bool = setting(
        Change.SAFE, "The cluster has the Prometheus operator: metrics, alerts and a dashboard for it", default=False
    )
