"""Profiles: sets of the optional parts of an environment, by one word. A section then gives a part's settings only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from pydantic.alias_generators import to_camel

from components.config.base import Section
from components.config.data import Data
from components.config.observability import Observability
from components.config.security import Security
from components.config.services import Services
from components.services.registry import DOCUMENTS, SERVICES

if TYPE_CHECKING:
    from components.config.platform import PlatformConfig


class Profile(StrEnum):
    """Which optional parts run."""

    CORE = "core"
    STANDARD = "standard"
    FULL = "full"

    @property
    def meaning(self) -> str:
        """The parts that run, in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Profile.CORE: "The gateway, the Router and the models.",
    Profile.STANDARD: "Those of core, all data servers, and the services that a new environment begins with.",
    Profile.FULL: "All parts: also the Portal, and the servers of security and observability.",
}
_AREAS: Mapping[str, type[Section]] = {
    "services": Services,
    "data": Data,
    "security": Security,
    "observability": Observability,
}
"""Sections with optional parts, by name."""
_ELSEWHERE = {"prometheus": "prometheusOperator", "traces": "otlpEndpoint"}
"""Parts that a setting of the same section replaces by a server outside the platform."""


def _first(part: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a part that the profile adds, where its defaults do not fit."""
    if part == "vectorDatabase":
        return {"collections": [dict(DOCUMENTS)]}
    # Several servers share a key, which only an operator, or KMS on AWS, can give them.
    single = part == "secretStore" and content.get("environment") == "local"
    return {"replicas": 1} if single else {}


def parts(area: str) -> Iterator[str]:
    """Names of the optional parts of a section, such as "kafka" of data."""
    for name, field in _AREAS[area].model_fields.items():
        if field.default is None:
            yield to_camel(name)


def _runs(profile: Profile, area: str, part: str) -> bool:
    if profile is Profile.FULL:
        return True
    if profile is Profile.CORE or area not in ("services", "data"):
        return False
    return area != "services" or not SERVICES[part].asked


def completed(data: Any) -> Any:
    """A configuration as YAML data, with empty sections for the parts that its profile adds.

    Data without a valid profile is returned as it is, for the validation to report.
    """
    content = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    try:
        profile = Profile(content.get("profile", ""))
    except ValueError:
        return data
    found = dict(content)
    for area in _AREAS:
        section: object = content.get(area) or {}
        if not isinstance(section, dict):
            continue
        given = cast("dict[str, Any]", section)
        added = {
            part: _first(part, content)
            for part in parts(area)
            if given.get(part) is None and _runs(profile, area, part) and not given.get(_ELSEWHERE.get(part, ""))
        }
        if added:
            found[area] = {**given, **added}
    return found


def reduced(config: PlatformConfig) -> PlatformConfig:
    """A configuration without the parts that its profile leaves out."""
    if config.profile is None:
        return config
    profile = config.profile
    changed: dict[str, Section] = {}
    for area, section in _AREAS.items():
        left_out = [
            name
            for name in section.model_fields
            if to_camel(name) in set(parts(area)) and not _runs(profile, area, to_camel(name))
        ]
        changed[area] = getattr(config, area).model_copy(update=dict.fromkeys(left_out))
    return config.model_copy(update=changed)
