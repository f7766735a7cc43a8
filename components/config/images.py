"""Where the platform's own images come from."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import Change, Section, matching, setting
from components.config.problems import violation


class ImageSource(StrEnum):
    """Where the platform's own images come from."""

    LOCAL_BUILD = "local-build"
    """Built, signed and pushed to a loopback registry by `forge up`."""
    REGISTRY = "registry"
    """Released images, by the digests in versions.lock.yaml."""


class Images(Section):
    """Where the platform's own images come from."""

    source: ImageSource = setting(Change.DISRUPTIVE, "local-build or registry", strict=False)
    registry: Annotated[
        str,
        matching(r"|[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", "a registry host and path", 'write it like "ghcr.io/acme"'),
    ] = setting(Change.DISRUPTIVE, "Registry host and path that hold the released images", default="")

    @model_validator(mode="after")
    def _registry_fits(self) -> Self:
        if self.source is ImageSource.REGISTRY and not self.registry:
            raise violation("registry is required when source is registry", 'add it, such as "ghcr.io/acme"')
        return self
