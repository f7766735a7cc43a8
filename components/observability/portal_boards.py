"""Dashboards as plain data, for the Portal's pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from components.observability.alert import within
from components.observability.dashboards import chosen
from components.observability.panel import Panel, Unit
from components.services.record import ServiceRecord


class PortalQuery(TypedDict):
    """Lines of a graph."""

    query: str
    """PromQL. `$__rate_interval` is left in it: replace it by a range of at least four scrapes and of at least one
    step of the graph."""
    legend: str
    """Name of a line; {{label}} stands for the value of a label."""


class PortalPanel(TypedDict):
    """A graph."""

    title: str
    description: str
    unit: Unit
    queries: list[PortalQuery]


class PortalBoard(TypedDict):
    """A page of graphs about one subject."""

    name: str
    """Unique; lower-case letters, digits and hyphens."""
    title: str
    description: str
    owner: str
    folder: str
    """Group of boards."""
    panels: list[PortalPanel]


def portal_boards(
    namespace: str, owner: str, parts: frozenset[str], records: Iterable[ServiceRecord]
) -> list[PortalBoard]:
    """The boards of an environment, of the same definitions as Grafana's dashboards.

    `namespace`: the platform's; `owner`: person or group responsible for the environment; `parts`: what `watched`
    finds; `records`: all services. As JSON, an environment with all parts takes 67 kB. An environment variable
    holds at most 128 KiB (Linux' MAX_ARG_STRLEN).
    """
    return [
        {
            "name": board.name,
            "title": board.title,
            "description": board.description,
            "owner": owner,
            "folder": board.folder,
            "panels": [_panel(one, namespace) for one in board.panels],
        }
        for board in chosen(parts, records)
    ]


def _panel(panel: Panel, namespace: str) -> PortalPanel:
    return {
        "title": panel.title,
        "description": panel.description,
        "unit": panel.unit,
        "queries": [{"query": within(namespace, query.expression), "legend": query.legend} for query in panel.queries],
    }
