"""Finds image references: always by digest, and with a verified signature."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pulumi

from components import catalogue
from components.config.images import Images, ImageSource, record
from components.delivery import registry

INDEX_VARIABLE = "COGNIFORGE_IMAGES"
"""Environment variable with the path of the file in which `forge up` records built images."""
KEY_VARIABLE = "COGNIFORGE_IMAGE_KEY"
"""Environment variable with the path of the public key for signatures."""
COSIGN_VARIABLE = "COGNIFORGE_COSIGN"
"""Environment variable with the path of cosign. The default is cosign on PATH."""


class ImageError(Exception):
    """An image must not be deployed. The message says why, and what to do."""


def locked(settings: Images) -> set[str]:
    """References of all images in the lock file: those of this release, and those of the release before."""
    images = [catalogue.image(name) for name in catalogue.image_names()]
    return {
        f"{settings.registry}/{image.name}@{digest}"
        for image in images
        for digest in (image.digest, image.former)
        if digest
    }


@dataclass(frozen=True)
class ImageResolver:
    """Finds the references of images and verifies their signatures."""

    settings: Images
    own: Mapping[str, str] = field(default_factory=dict[str, str])
    """Images of the user's own services, and of others, by name: the reference by digest.

    Empty: built here, or not known.
    """

    def reference(self, name: str) -> pulumi.Output[str]:
        """The image's reference by digest. One that the configuration names is taken as it is.

        In a preview the reference may be unknown, because the image need not exist yet. In an
        update it is verified first. Raises ImageError, which stops the update before anything changes.
        """
        if given := self.own.get(name):
            return pulumi.Output.from_input(given)
        found = self._find(name)
        if pulumi.runtime.is_dry_run():
            if found is None and self.settings.source is ImageSource.REGISTRY:
                pulumi.log.warn(f"{catalogue.NO_DIGEST}{self._missing(name)}")
            return pulumi.Output.from_input(found) if found else _unknown()
        if found is None:
            raise ImageError(self._missing(name))
        self._verify(name, found)
        return pulumi.Output.from_input(found)

    def admitted(self) -> list[str]:
        """All references that pods may run: images of this release, and those that a rollout replaces.

        During a rollout, and after an interrupted update, pods of the previous release may have to be recreated.
        """
        given = {reference for reference in self.own.values() if reference}
        if self.settings.source is ImageSource.REGISTRY:
            return sorted(given | locked(self.settings))
        names = {*catalogue.image_names(), *self.own}
        records = [*self._index().values(), *self._index("history.json").values()]
        return sorted(given | {f"{r['repository']}@{r['digest']}" for r in records if r["name"] in names})

    def _find(self, name: str) -> str | None:
        if name in catalogue.upstream_names():
            return None  # `own` has it if its digest is known
        if self.settings.source is ImageSource.REGISTRY:
            digest = catalogue.image(name).digest
            return f"{self.settings.registry}/{name}@{digest}" if digest else None
        built = self._index().get(name)
        return f"{built['repository']}@{built['digest']}" if built else None

    def _index(self, sibling: str = "") -> dict[str, dict[str, str]]:
        """Images that were built here for this registry, by name; or the content of a file next to that record."""
        index = os.environ.get(INDEX_VARIABLE)
        if not index:
            return {}
        path = record(Path(index), self.settings.registry)
        return _read(path.with_name(sibling) if sibling else path)

    def _missing(self, name: str) -> str:
        if name in catalogue.upstream_names():
            pin = catalogue.upstream(name)
            return (
                f'image "{name}": {catalogue.LOCK_FILE.name} has no digest of {pin.repository} {pin.version}; '
                f"set observability.{name}.image to a reference by digest"
            )
        if self.settings.source is ImageSource.REGISTRY:
            return (
                f'image "{name}" {catalogue.image(name).version} is not released: '
                f"{catalogue.LOCK_FILE.name} has no digest for it"
            )
        return f'image "{name}" has not been built on this machine; run `forge up`, or `forge images`'

    def _verify(self, name: str, reference: str) -> None:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key or not Path(key).exists():
            raise ImageError(
                f'image "{name}": there is no public key for verification; set {KEY_VARIABLE} to the path of cosign.pub'
            )
        # The key belongs to this installation, so there is no entry in a public transparency log.
        flags = ("--insecure-ignore-tlog=true", "--private-infrastructure=true", "--output=json")
        program = os.environ.get(COSIGN_VARIABLE, "cosign")
        try:
            result = subprocess.run(
                [program, "verify", "--key", key, *flags, reference],
                capture_output=True,
                text=True,
                timeout=60,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ImageError(f'image "{name}" cannot be verified: {error}') from None
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1] if result.returncode else None
        if reason is None and self.settings.source is ImageSource.LOCAL_BUILD:
            reason = registry.altered(reference)
        if reason is not None:
            raise ImageError(
                f'image "{name}" does not match its signature: {reason}\n'
                f"  reference: {reference}\n"
                "  Nothing was changed. If you did not change the image yourself, treat the registry as tampered with; "
                "`forge images --rebuild` builds and signs it again."
            )


def _unknown() -> pulumi.Output[str]:
    """An output that is unknown in previews."""

    async def value() -> str:
        return ""

    async def known() -> bool:
        return False

    async def secret() -> bool:
        return False

    return pulumi.Output(set(), value(), known(), secret())  # pyright: ignore[reportArgumentType]


def _read(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ImageError(f"{path} is damaged: {error}; delete it and run `forge up`") from None
