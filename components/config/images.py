"""Where the platform's own images come from."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import model_validator

from components.config.base import Change, Section, matching, setting
from components.config.problems import violation


class ImageSource(StrEnum):
    """Where the platform's own images come from."""

    LOCAL_BUILD = "local-build"
    """Built, signed and pushed by `forge up`: to the local node's registry, or to `registry` for another cluster."""
    REGISTRY = "registry"
    """Released images, by the digests in versions.lock.yaml."""


_PLAIN = re.compile(r"(localhost|127(\.\d+){3}|\[::1\]|.*\.local(host)?)(:\d+)?")


def speaks_plain_http(registry: str) -> bool:
    """Whether a registry, given as host[:port][/path], is one of this machine, where HTTP is spoken without TLS.

    The same hosts as in go-containerregistry, which cosign and containers' tools use.
    """
    return _PLAIN.fullmatch(registry.partition("/")[0]) is not None


def record(index: Path, registry: str) -> Path:
    """The record of images that were built for another cluster's registry, beside that of the local node's."""
    if not registry:
        return index
    return index.parent / "elsewhere" / re.sub(r"[^a-z0-9.-]", "_", registry) / index.name


class Images(Section):
    """Where the platform's own images come from."""

    source: ImageSource = setting(Change.DISRUPTIVE, "local-build or registry", strict=False)
    registry: Annotated[
        str,
        matching(r"|[a-z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*", "a registry host and path", 'write it like "ghcr.io/acme"'),
    ] = setting(
        Change.DISRUPTIVE,
        "Registry host and path that hold the images; with local-build: for an existing cluster only",
        default="",
    )

    @model_validator(mode="after")
    def _registry_fits(self) -> Self:
        if self.source is ImageSource.REGISTRY and not self.registry:
            raise violation("registry is required when source is registry", 'add it, such as "ghcr.io/acme"')
        return self
