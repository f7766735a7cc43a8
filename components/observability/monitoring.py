"""Monitoring through the cluster's Prometheus operator: metrics of pods, alerts, dashboards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic.alias_generators import to_camel

from components.base import PlatformComponent, labels
from components.observability import alerts, dashboards, scraping
from components.services.record import ServiceRecord


class MonitoringArgs(TypedDict):
    """Inputs of monitoring."""

    namespace: str
    parts: frozenset[str]
    """Names of the enabled parts. "data" stands for any part with a volume."""
    services: Sequence[ServiceRecord]
    """Records whose alerts and panels are among them."""


class MonitoringResources(NamedTuple):
    """Resources of monitoring."""

    pod_monitor: k8s.apiextensions.CustomResource
    rules: k8s.apiextensions.CustomResource
    """PrometheusRule with the alerts."""
    dashboard: k8s.core.v1.ConfigMap
    """For Grafana's sidecar."""


class Monitoring(PlatformComponent):
    """A PodMonitor for annotated pods, a PrometheusRule, and dashboards for Grafana's sidecar."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("observability", name, {"parts": sorted(args["parts"])}, opts)
        self._namespace = args["namespace"]
        monitor = self._make("PodMonitor", "metrics", pod_monitor())
        rules = self._make("PrometheusRule", "alerts", alerts.rules(args["namespace"], args["parts"], args["services"]))
        boards = dashboards.dashboards(args["namespace"], args["parts"], args["services"])
        dashboard = k8s.core.v1.ConfigMap(
            f"{name}-dashboard",
            metadata={
                "name": "cogniforge-dashboard",
                "namespace": args["namespace"],
                "labels": {**labels("monitoring", "observability"), "grafana_dashboard": "1"},
            },
            data={f"{board}.json": json.dumps(content, indent=1) for board, content in boards.items()},
            opts=self.child(),
        )
        self.resources = MonitoringResources(monitor, rules, dashboard)
        self.finish(
            {
                "kind": "PrometheusRule",
                "namespace": args["namespace"],
                "name": "cogniforge-alerts",
                "probe": "the operator has taken the rules",
            }
        )

    def _make(self, kind: str, slug: str, spec: dict[str, Any]) -> k8s.apiextensions.CustomResource:
        return k8s.apiextensions.CustomResource(
            f"{self.name}-{slug}",
            api_version="monitoring.coreos.com/v1",
            kind=kind,
            metadata={
                "name": f"cogniforge-{slug}",
                "namespace": self._namespace,
                "labels": labels("monitoring", "observability"),
            },
            spec=spec,
            opts=self.child(),
        )


def pod_monitor() -> dict[str, Any]:
    """Spec of a PodMonitor for pods with Prometheus' annotations. The job is the part's name."""
    relabelled = [{to_camel(field): value for field, value in rule.items()} for rule in scraping.pods()]
    return {
        "selector": {"matchLabels": {"app.kubernetes.io/managed-by": "pulumi"}},
        "podMetricsEndpoints": [{"interval": "30s", "relabelings": relabelled}],
    }
