"""The mesh section of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator

from components.config.base import Change, DnsLabel, Resources, Section, first_duplicate, setting
from components.config.problems import violation


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
    authorities: tuple[DnsLabel, ...] = setting(
        Change.DISRUPTIVE,
        "Names of authorities. The first signs certificates, and all are trusted. Local environment only",
        default=("first",),
        min_length=1,
        max_length=2,
        strict=False,
    )
    sidecar: Resources = setting(
        Change.DISRUPTIVE,
        "Of each sidecar. Local environment only",
        default=Resources(cpu="10m", memory="160Mi"),
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        if duplicate := first_duplicate(self.authorities):
            raise violation(f'authorities must be unique; "{duplicate}" occurs twice', "rename one")
        return self

    def overlaps(self, before: Mesh) -> bool:
        """Whether pods of before and after a change of authorities accept each other's certificates."""
        return self.authorities[0] in before.authorities and before.authorities[0] in self.authorities

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images of a mesh that the platform runs itself, without Istio's charts."""
        return ("istiod", "istio-proxy") if self.mode is MeshMode.SIDECAR else ()
