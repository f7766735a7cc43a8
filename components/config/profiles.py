"""Profiles: sets of the optional parts of an environment, by one word. A section then gives a part's settings only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic.alias_generators import to_camel

from components.config.base import Section
from components.config.data import Data
from components.config.grafana import PART as GRAFANA
from components.config.observability import Observability
from components.config.profile import Profile
from components.config.security import Security
from components.config.services import Services
from components.services.registry import DOCUMENTS, SERVICES

_AREAS: Mapping[str, type[Section]] = {
    "services": Services,
    "data": Data,
    "security": Security,
    "observability": Observability,
}
"""Sections with optional parts, by name."""
_NEVER_ADDED = (GRAFANA,)
"""Parts that take a decision of an operator: where Grafana's image is, and who looks at it."""
_ELSEWHERE = {"prometheus": "prometheusOperator", "traces": "otlpEndpoint"}
"""Parts that a setting of the same section replaces by a server outside the platform."""


_ON_ONE_MACHINE: Mapping[str, dict[str, Any]] = {
    # Several servers would share a key, which only an operator, or KMS on AWS, can give them.
    "secretStore": {"replicas": 1, "resources": {"cpu": "25m", "memory": "256Mi"}},
    # Builds and tests on the same cores keep a decision waiting; the limit concerns these requests only.
    "opa": {"replicas": 1, "closed": False, "decisionMilliseconds": 1000},
    "keycloak": {"resources": {"cpu": "50m", "memory": "700Mi"}},
}
"""Settings with which all parts fit on one machine with two cores, by part."""


def _first(part: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a part that the profile adds, where its defaults do not fit."""
    if part == "vectorDatabase":
        return {"collections": [dict(DOCUMENTS)]}
    return _ON_ONE_MACHINE.get(part, {}) if content.get("environment") == "local" else {}


def optional(area: str) -> list[str]:
    """Fields of the optional parts of a section, such as "object_store" of data."""
    return [name for name, field in _AREAS[area].model_fields.items() if field.default is None]


def parts(area: str) -> list[str]:
    """Names of the optional parts of a section in the stack file, such as "objectStore" of data."""
    return [to_camel(name) for name in optional(area)]


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
    if not isinstance(data, dict):
        return data
    content = cast("dict[str, Any]", data)
    try:
        profile = Profile(content.get("profile", ""))
    except ValueError:
        return content
    found = dict(content)
    for area in _AREAS:
        section: object = content.get(area) or {}
        if not isinstance(section, dict):
            continue
        given = cast("dict[str, Any]", section)
        added = {
            part: _first(part, content)
            for part in parts(area)
            if part not in _NEVER_ADDED
            and given.get(part) is None
            and _runs(profile, area, part)
            and not given.get(_ELSEWHERE.get(part, ""))
        }
        if added:
            found[area] = {**given, **added}
    if profile is Profile.FULL and _captures(content) and "mesh" not in content:
        found["mesh"] = {"mode": "sidecar"}
    return found


def _captures(content: Mapping[str, Any]) -> bool:
    """Whether the environment runs on the local node, which captures the traffic of pods by itself."""
    cluster: object = content.get("cluster") or {}
    kind: object = cast("dict[str, Any]", cluster).get("kind", "local") if isinstance(cluster, dict) else ""
    return content.get("environment") == "local" and kind == "local"


def left_out(profile: Profile) -> dict[str, list[str]]:
    """Fields of the parts that a profile leaves out, by the name of their section."""
    return {area: [name for name in optional(area) if not _runs(profile, area, to_camel(name))] for area in _AREAS}
