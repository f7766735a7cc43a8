"""The name of a profile. It stands alone, so that the command line can show the names without loading all sections."""

from __future__ import annotations

from enum import StrEnum


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
    Profile.FULL: "All parts but Grafana: also the Portal, the servers of security and observability, and the mesh "
    "where the platform runs it itself.",
}
