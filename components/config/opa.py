"""The section of OPA, which decides at the gateway who may call what, and its rules for tenants."""

from __future__ import annotations

import zoneinfo
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, Strict, model_validator

from components.config.base import Change, ModelName, Resources, Section, matching, setting, several
from components.config.problems import violation


class Weekday(StrEnum):
    """A day of the week."""

    MONDAY = "monday"
    TUESDAY = "tuesday"
    WEDNESDAY = "wednesday"
    THURSDAY = "thursday"
    FRIDAY = "friday"
    SATURDAY = "saturday"
    SUNDAY = "sunday"


def _zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise violation("a time zone of the IANA database", 'write it like "Europe/Berlin"')
    return name


TimeZone = Annotated[str, Field(max_length=60), AfterValidator(_zone)]
ClockTime = Annotated[
    str, matching("([01][0-9]|2[0-3]):[0-5][0-9]|24:00", "a time of day from 00:00 to 24:00", 'write it like "08:30"')
]
Region = Annotated[
    str, Field(max_length=40), matching("[a-z0-9]+(-[a-z0-9]+)*", "the name of a region", 'write it like "eu"')
]
TenantName = Annotated[
    str,
    Field(max_length=100),
    matching("[A-Za-z0-9][A-Za-z0-9._-]*", "the ID of a tenant", 'write it like "acme"'),
]
RulesFolder = Annotated[
    str,
    Field(max_length=300),
    matching(
        "[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*",
        "a folder below the one of Pulumi.yaml, with files *.rego of the package `own`",
        'write it like "rules", without a leading slash and without ".."',
    ),
]


class Hours(Section):
    """Hours of a week. They end on the day on which they begin."""

    days: tuple[Annotated[Weekday, Strict(False)], ...] = setting(
        Change.SAFE, "Days of the week", min_length=1, max_length=7, strict=False
    )
    begin: ClockTime = setting(Change.SAFE, "Time of day at which they begin, such as 08:00")
    end: ClockTime = setting(Change.SAFE, "Time of day at which they end, such as 18:00")

    @model_validator(mode="after")
    def _forward(self) -> Hours:
        if self.begin >= self.end:
            raise violation("end after begin", "for a night, write two entries that meet at 24:00 and 00:00")
        return self


class TenantRules(Section):
    """Limits of a tenant, besides those that User keeps. They concern its own keys only."""

    models: tuple[ModelName, ...] = several(Change.SAFE, "Models and routes that it may use; empty means all", 200)
    regions: tuple[Region, ...] = several(
        Change.SAFE, "Regions of models that may process its data; empty means all", 50
    )
    hours: tuple[Hours, ...] = several(Change.SAFE, "Hours in which it may use the platform; empty means all", 50)
    time_zone: TimeZone = setting(Change.SAFE, "Time zone of its hours", default="UTC")


class Opa(Section):
    """OPA: decides at the gateway by the services' records and documents, the directory of keys, and these rules."""

    # The CPU request is the share of a busy node: with 50m, pods that start kept decisions waiting beyond their 50 ms.
    replicas: int = setting(Change.SAFE, "Replicas", default=2, ge=1, le=20)
    resources: Resources = setting(Change.SAFE, "Of each replica", default=Resources(cpu="200m", memory="192Mi"))
    closed: bool = setting(
        Change.SAFE,
        "Whether the gateway refuses requests that OPA does not decide in time. Operators' operations always are",
        default=True,
    )
    decision_milliseconds: int = setting(
        Change.SAFE, "Longest time of a decision, which delays a request at most so long", default=50, ge=10, le=5000
    )
    tenants: dict[TenantName, TenantRules] = setting(
        Change.SAFE, "Limits of tenants by their ID", default={}, max_length=1000
    )
    regions: dict[ModelName, Region] = setting(
        Change.SAFE, "Regions where models and routes run, by their name", default={}, max_length=200
    )
    rules: RulesFolder | None = setting(
        Change.SAFE, "Folder with rules of your own, which can deny more, and nothing else", default=None
    )
