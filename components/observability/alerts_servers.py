"""Alerts that no metrics are read from a server: all its other alerts are silent then. Pure data."""

from __future__ import annotations

from components.observability.alert import Alert, Runbook
from components.observability.objective import camel

TITLES = {
    "cache": "the cache",
    "change-data-capture": "change data capture",
    "gateway": "the gateway",
    "istiod": "istiod",
    "jaeger": "Jaeger",
    "kafka": "Kafka",
    "keycloak": "Keycloak",
    "nats": "NATS",
    "object-store": "the object store",
    "opa": "OPA",
    "postgres": "PostgreSQL",
    "schema-registry": "the schema registry",
    "telemetry-gateway": "the OpenTelemetry gateway",
}
"""Servers that have metrics, by the names of their parts."""


def running(part: str) -> str:
    """Part of an alert for the platform's own server, which a managed service may replace."""
    return f"{part}/server"


def _not_scraped(name: str, title: str) -> Alert:
    return Alert(
        f"{camel(name)}NotScraped",
        f'absent(up{{job="{name}"}} == 1)',
        "5m",
        "page",
        f"No metrics are read from {title}: it is down, or its metrics are unreachable. Its other alerts are silent.",
        running(name),
        Runbook(
            "No pod runs: it cannot be scheduled, its volume is unavailable, or its process ends. Or a network policy "
            "has changed.",
            (
                "forge status",
                f"forge logs {name}",
                f"kubectl --namespace $namespace get pods --selector app.kubernetes.io/name={name}",
            ),
            "Bring the pod back. `forge up` restores what was changed by hand.",
        ),
    )


ALERTS: tuple[Alert, ...] = tuple(_not_scraped(name, title) for name, title in TITLES.items())
