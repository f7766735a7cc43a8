"""Metrics that exist: those that the services' code declares, and those of Kubernetes and of NVIDIA's exporter."""

from __future__ import annotations

import re
from pathlib import Path

_SOURCES = Path(__file__).resolve().parents[1] / "service_images"
FOREIGN = frozenset(
    (
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "kube_cronjob_status_last_successful_time",
        "kube_deployment_spec_replicas",
        "kube_deployment_status_replicas_available",
        "kube_job_status_failed",
        "kube_pod_container_status_restarts_total",
        "kubelet_volume_stats_available_bytes",
        "kubelet_volume_stats_capacity_bytes",
    )
)
"""Metrics of kube-state-metrics and the kubelet."""
DCGM = frozenset(
    (
        "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_FB_USED",
        "DCGM_FI_DEV_GPU_TEMP",
        "DCGM_FI_DEV_GPU_UTIL",
        "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_POWER_USAGE",
        "DCGM_FI_DEV_ROW_REMAP_FAILURE",
        "DCGM_FI_DEV_SM_CLOCK",
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
        "DCGM_FI_DEV_XID_ERRORS",
    )
)
"""Metrics of NVIDIA's DCGM exporter. Source: its repository, etc/default-counters.csv."""


def ours() -> set[str]:
    """Every metric in a service's code, with Prometheus' names."""
    found: set[str] = set()
    for path in _SOURCES.glob("*/src/**/*.py"):
        for kind, name in re.findall(r'(Counter|Gauge|Histogram|Count|Spread)\(\s*"([a-z_]+)"', path.read_text()):
            counted = kind in ("Counter", "Count")
            found |= {name.removesuffix("_total") + "_total"} if counted else {name, f"{name}_bucket"}
    return found


def shown(text: str) -> set[str]:
    """Names of the metrics in a scrape."""
    return set(re.findall(r"^([a-zA-Z_][a-zA-Z0-9_:]*)[ {]", text, re.MULTILINE))
