"""Rules between the section of Grafana and the others."""

from __future__ import annotations

from collections.abc import Iterator

from components.config.platform import Environment, PlatformConfig
from components.config.problems import Conflict, Location


def conflicts(config: PlatformConfig) -> Iterator[Conflict]:
    """Every mistake in `observability.grafana` that the section alone does not show."""
    section, grafana = config.observability, config.observability.grafana
    if grafana is None:
        return
    here: Location = ("observability", "grafana")
    if config.environment is Environment.LOCAL:
        text = "none in the local environment: no package carries Grafana, so its image cannot be built on this machine"
        fix = "remove it; the Portal and `forge status` show the local environment"
        yield Conflict(here, "(an object)", text, fix, ("environment",))
    if config.security.keycloak is None:
        text = "allowed with security.keycloak only, where people log in"
        yield Conflict(here, "(an object)", text, "add security.keycloak, or remove it", ("security",))
    if section.prometheus and grafana.prometheus_url:
        text = "empty with observability.prometheus, which has the metrics"
        fix = "remove prometheusUrl, or observability.prometheus"
        yield Conflict((*here, "prometheusUrl"), grafana.prometheus_url, text, fix, ("observability.prometheus",))
    if not section.prometheus and not grafana.prometheus_url:
        text = "required without observability.prometheus: dashboards need metrics"
        fix = 'write the address of a Prometheus, such as "http://prometheus-operated.monitoring.svc:9090"'
        yield Conflict((*here, "prometheusUrl"), "(missing)", text, fix, ("observability.prometheus",))
