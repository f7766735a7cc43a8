"""Checks of the mesh section against the rest of the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.alias_generators import to_camel

from components.config.cluster import ClusterKind
from components.config.mesh import Mesh, MeshMode
from components.config.platform import Environment, PlatformConfig
from components.config.problems import Conflict

_OWN_FIELDS = ("authorities", "certificate_minutes", "sidecar")
"""Fields of a mesh that the platform runs itself."""


def conflicts(config: PlatformConfig) -> Iterator[Conflict]:
    """Which meshes each environment can have. Only the local node captures the traffic of pods by itself."""
    mesh, around = config.mesh, ("environment",)
    if config.environment is not Environment.LOCAL:
        usual = Mesh()  # a dump of a configuration names every field
        for name in (to_camel(field) for field in _OWN_FIELDS if getattr(mesh, field) != getattr(usual, field)):
            text = "allowed in the local environment only; elsewhere, Istio's chart decides"
            yield Conflict(("mesh", name), "(a value)", text, f"remove {name}", around)
        return
    if mesh.mode is MeshMode.AMBIENT:
        text = "must be off or sidecar in the local environment: Istio's ztunnel is not available as a package"
        yield Conflict(("mesh", "mode"), mesh.mode.value, text, "set mode: sidecar, or remove mesh", around)
    if mesh.mode is MeshMode.SIDECAR and config.cluster.kind is not ClusterKind.LOCAL:
        text = "must be off for an existing cluster in the local environment, whose nodes do not capture traffic"
        yield Conflict(("mesh", "mode"), mesh.mode.value, text, "remove mesh", ("cluster.kind", "environment"))
