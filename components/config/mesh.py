"""The mesh section of the configuration."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, Resources, Section, setting


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
    certificate_minutes: int = setting(
        Change.DISRUPTIVE,
        "Minutes that a workload's certificate is valid; it is renewed after half of them. Local environment only",
        default=1440,
        ge=1,
        le=1440,
    )
    sidecar: Resources = setting(
        Change.DISRUPTIVE,
        "Of each sidecar. Local environment only",
        default=Resources(cpu="10m", memory="160Mi"),
    )

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images of a mesh that the platform runs itself, without Istio's charts."""
        return ("istiod", "istio-proxy") if self.mode is MeshMode.SIDECAR else ()
