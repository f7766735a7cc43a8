"""Monitoring through the cluster's Prometheus operator: metrics of pods, alerts, dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import pulumi
import pulumi_kubernetes as k8s
from pydantic.alias_generators import to_camel

from components.base import PlatformComponent, labels
from components.observability import alerts, dashboards, scraping
from components.services.record import ServiceRecord

INTERVAL_S = 30


class MonitoringArgs(TypedDict):
    """Inputs of monitoring."""

    namespace: str
    parts: frozenset[str]
    """Names of the enabled parts. "data" stands for any part with a volume."""
    services: Sequence[ServiceRecord]
    """Records whose alerts and panels are among them."""
    owner: str
    """Person or group responsible for the environment, whom each dashboard names."""


class MonitoringResources(NamedTuple):
    """Resources of monitoring."""

    pod_monitor: k8s.apiextensions.CustomResource
    rules: k8s.apiextensions.CustomResource
    """PrometheusRule with the alerts."""
    dashboards: Mapping[str, k8s.core.v1.ConfigMap]
    """For Grafana's sidecar, by folder."""


class Monitoring(PlatformComponent):
    """A PodMonitor for annotated pods, a PrometheusRule, and dashboards for Grafana's sidecar."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("observability", name, {"parts": sorted(args["parts"])}, opts)
        self._namespace = args["namespace"]
        monitor = self._make("PodMonitor", "metrics", pod_monitor())
        rules = self._make("PrometheusRule", "alerts", alerts.rules(args["namespace"], args["parts"], args["services"]))
        folders = dashboards.dashboards(args["namespace"], args["owner"], args["parts"], args["services"])
        made = dashboards.config_maps(name, "monitoring", args["namespace"], folders, self.child(), sidecar=True)
        self.resources = MonitoringResources(monitor, rules, made)
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
        "podMetricsEndpoints": [{"interval": f"{INTERVAL_S}s", "relabelings": relabelled}],
    }
