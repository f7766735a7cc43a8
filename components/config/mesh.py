"""The mesh part of the configuration."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, Section, setting


class MeshMode(StrEnum):
    """How services are connected."""

    OFF = "off"
    """No mesh: network policies alone."""
    AMBIENT = "ambient"
    """Istio with a proxy a node: no restarts, little memory."""
    SIDECAR = "sidecar"
    """Istio with a proxy a pod."""


class Mesh(Section):
    """Mutual TLS and authorization between services."""

    mode: MeshMode = setting(Change.DISRUPTIVE, "off, ambient or sidecar", default=MeshMode.OFF, strict=False)
