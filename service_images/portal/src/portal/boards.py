"""The platform's dashboards as the Portal draws them. The component renders them into the settings."""

from __future__ import annotations

from kit.rest import Model


class BoardQuery(Model):
    """What one or more lines of a graph show."""

    query: str
    """PromQL; `$__rate_interval` stands for a range."""
    legend: str
    """Name of a line; {{label}} stands for the value of a label."""


class BoardPanel(Model):
    """A graph."""

    title: str
    description: str
    unit: str
    queries: tuple[BoardQuery, ...]


class Board(Model):
    """A page of graphs about one subject."""

    name: str
    title: str
    description: str
    owner: str
    """Person or group responsible for the environment."""
    folder: str
    """Group of boards."""
    panels: tuple[BoardPanel, ...]
