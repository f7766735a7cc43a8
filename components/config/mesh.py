"""The mesh section of the configuration."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, Section, setting


class MeshMode(StrEnum):
    """Service mesh between the services."""

    OFF = "off"
    """No mesh: only NetworkPolicies separate services."""
    AMBIENT = "ambient"
    """Istio with one proxy per node: pods need no restart, and memory use is low."""
    SIDECAR = "sidecar"
    """Istio with one proxy per pod."""


class Mesh(Section):
    """Mutual TLS and authorization between services."""

    mode: MeshMode = setting(
        Change.DISRUPTIVE, "Service mesh: off, ambient or sidecar", default=MeshMode.OFF, strict=False
    )
