"""The images section of the configuration: source of the platform's own container images."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import Change, Section, matching, setting
from components.config.problems import violation


class ImageSource(StrEnum):
    """Source of the platform's own container images."""

    LOCAL_BUILD = "local-build"
    """`forge up` builds, signs and pushes them: to the local node's registry, or to `registry` for another cluster."""
    REGISTRY = "registry"
    """Released images, with the digests of versions.lock.yaml."""


_PLAIN = re.compile(r"(localhost|127(\.\d+){3}|\[::1\]|.*\.local(host)?)(:\d+)?")


def speaks_plain_http(registry: str) -> bool:
    """Whether a registry (host[:port][/path]) is on this machine, and so uses HTTP without TLS.

    The hosts are those of go-containerregistry, which cosign and other container tools use.
    """
    return _PLAIN.fullmatch(registry.partition("/")[0]) is not None


def record(index: Path, registry: str) -> Path:
    """File that lists the images built for a registry; an empty registry means the local node's own."""
    if not registry:
        return index
    return index.parent / "elsewhere" / re.sub(r"[^a-z0-9.-]", "_", registry) / index.name


class Images(Section):
    """Source of the platform's own container images."""

    source: ImageSource = setting(Change.DISRUPTIVE, "Source: local-build or registry", strict=False)
    registry: Annotated[
        str,
        matching(r"|[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", "a registry host and path", 'write it like "ghcr.io/acme"'),
    ] = setting(
        Change.DISRUPTIVE,
        "Host and path of the registry; with source: local-build, for kind: existing only",
        default="",
    )
    max_age_days: int = setting(
        Change.SAFE, "Age in days from which `forge verify` reports a running image", default=90, ge=1, le=3650
    )

    @model_validator(mode="after")
    def _registry_fits(self) -> Self:
        if self.source is ImageSource.REGISTRY and not self.registry:
            raise violation("registry is required when source is registry", 'add it, such as "ghcr.io/acme"')
        return self
