"""Where a service finds the platform's metrics, spans and log lines, if its record says that it shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from components.ai.service import AiServiceArgs
from components.base import SCRAPER
from components.config.platform import PlatformConfig
from components.config.traces import QUERY_PORT, SERVER
from components.observability import log_names
from components.observability.portal_boards import PortalBoard, portal_boards
from components.observability.scraping import PORT as PROMETHEUS_PORT
from components.services.record import ServiceRecord

_LOGIN = "log-store"
"""File with the login for the store of log lines, among the service's credentials."""


def readers(records: Mapping[str, ServiceRecord]) -> list[str]:
    """Services that the servers of metrics, spans and log lines let in."""
    return sorted(record.name for record in records.values() if record.shows_telemetry)


def boards(config: PlatformConfig, parts: frozenset[str]) -> list[PortalBoard]:
    """Dashboards of these parts, where the platform runs a Prometheus to draw them from."""
    if config.observability.prometheus is None:
        return []
    return portal_boards(config.cluster.namespace, config.owner, parts, config.around.records.values())


def shown(
    record: ServiceRecord, config: PlatformConfig, more: AiServiceArgs, boards: Sequence[PortalBoard]
) -> AiServiceArgs:
    """The arguments with the addresses of the enabled servers, with egress to those in other namespaces, and boards."""
    section, environment = config.observability, dict[str, str]()
    shows, credentials = dict[str, tuple[str, int]](), dict[str, tuple[str, str]]()
    if section.prometheus:
        space, server = SCRAPER
        environment["SERVICE_BOARDS"] = json.dumps(boards)
        environment["SERVICE_PROMETHEUS_URL"] = f"http://{server}.{space}:{PROMETHEUS_PORT}"
        shows["alerts"] = (space, PROMETHEUS_PORT)
    if section.traces:
        environment["SERVICE_JAEGER_URL"] = f"http://{SERVER}.{config.cluster.namespace}:{QUERY_PORT}"
    if section.logs and section.logs.loki is None:
        space, port = log_names.STORE_NAMESPACE, log_names.PORT
        environment["SERVICE_LOG_STORE_URL"] = f"http://{log_names.STORE}.{space}:{port}"
        # Services start before the store, so the login is a Secret that pods do not wait for.
        environment["SERVICE_LOG_STORE_LOGIN"] = f"/etc/{record.name}-credentials/{_LOGIN}"
        shows["logs"], credentials[_LOGIN] = (space, port), (log_names.LOGIN, "authorization")
    return {
        **more,
        "environment": {**more.get("environment", {}), **environment},
        "shows": shows,
        "credentials": credentials,
    }
