"""The section observability.grafana of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from components.config.base import Change, Resources, Section, matching, setting
from components.config.custom import ImageReference
from components.config.data import Storage
from components.config.security import GRAFANA
from components.config.web import SERVER

PART = GRAFANA
"""Name of the part, of its Service, of its client in Keycloak, and of its image in the lock file."""
PORT = 3000
PATH = f"/{PART}/"
"""Where the gateway has its pages."""
Group = Annotated[
    str,
    Field(max_length=200),
    matching(
        r"/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*",
        "the path of a group of Keycloak",
        'write it like "/tenants/acme/viewer"',
    ),
]


class Grafana(Section):
    """Grafana, with the platform's dashboards and data sources. People log in with Keycloak."""

    image: ImageReference | None = setting(
        Change.DISRUPTIVE,
        "Grafana's image by digest, such as a copy in a registry of yours; null: upstream's, as locked",
        default=None,
    )
    prometheus_url: Annotated[
        str,
        Field(max_length=2000),
        matching(
            rf"|{SERVER}(/[^\s?#]*)?",
            "an http(s) URL without a user",
            'write "http://prometheus-operated.monitoring.svc:9090"',
        ),
    ] = setting(Change.SAFE, "Prometheus that has the metrics; empty: the platform's own", default="")
    viewers: tuple[Group, ...] = setting(
        Change.SAFE,
        "Groups of Keycloak whose people may look at dashboards, besides operators",
        default=(),
        max_length=100,
        strict=False,
    )
    storage: Storage = setting(Change.SAFE, "Volume for users, sessions and preferences", default="1Gi")
    resources: Resources = setting(Change.DISRUPTIVE, "Of the server", default=Resources(cpu="50m", memory="384Mi"))
