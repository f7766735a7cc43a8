"""The section observability.logs of the configuration."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, model_validator

from components.config.base import Change, ObjectName, Resources, Section, matching, setting
from components.config.data import Storage
from components.config.problems import violation
from components.config.web import SERVER

_FIELDS_OF_OWN_STORE = ("storage", "keep_days", "resources")


class Loki(Section):
    """A Loki 3 that exists already. It receives log lines by OTLP."""

    url: Annotated[
        str,
        Field(max_length=2000),
        matching(
            SERVER,
            "an http(s) URL without a user and without a path",
            'write "http://loki-gateway.monitoring.svc"',
        ),
    ] = setting(Change.SAFE, "Address of Loki")
    tenant: Annotated[
        str,
        Field(max_length=150),
        matching(r"|[A-Za-z0-9!._*'()-]+", "letters, digits and ! . _ * ' ( ) -", 'write it like "platform"'),
    ] = setting(Change.SAFE, "Loki's tenant, for the header X-Scope-OrgID; empty: Loki has one tenant", default="")
    secret_name: ObjectName | None = setting(
        Change.SAFE,
        'Secret in the namespace log-collector whose entry "authorization" is the value of the header Authorization; '
        "null: Loki asks for none",
        default=None,
    )

    @property
    def address(self) -> SplitResult:
        """The parts of the URL."""
        return urlsplit(self.url)


class Logs(Section):
    """Collection of log lines, and the store for them: VictoriaLogs, or a Loki that exists already."""

    storage: Storage = setting(Change.SAFE, "Volume for log lines", default="5Gi")
    keep_days: int = setting(
        Change.SAFE, "Days that log lines are kept, if the volume holds them", default=14, ge=1, le=3650
    )
    resources: Resources = setting(Change.DISRUPTIVE, "Of the store", default=Resources(cpu="50m", memory="256Mi"))
    collector: Resources = setting(
        Change.DISRUPTIVE, "Of the collector on each node", default=Resources(cpu="50m", memory="256Mi")
    )
    loki: Loki | None = setting(Change.DISRUPTIVE, "Send log lines to this Loki; no store is created", default=None)

    @model_validator(mode="after")
    def _one_store(self) -> Self:
        if self.loki and (named := [name for name in _FIELDS_OF_OWN_STORE if name in self.model_fields_set]):
            raise violation(
                f"loki or the platform's own store: with loki, {', '.join(sorted(named))} has no effect",
                "remove these fields, or loki",
            )
        return self

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that the parts run."""
        return ("collector", *(() if self.loki else ("log-store",)))
