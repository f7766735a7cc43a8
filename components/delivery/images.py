"""Which image runs: always a digest, and only after its signature was verified."""

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
"""Names the file in which `forge up` records what it built."""
KEY_VARIABLE = "COGNIFORGE_IMAGE_KEY"
"""Names the public key that signatures are checked with."""
COSIGN_VARIABLE = "COGNIFORGE_COSIGN"
"""Names the cosign program; default: the one on PATH."""


class ImageError(Exception):
    """An image must not be deployed; the text says why and what to do."""


@dataclass(frozen=True)
class ImageResolver:
    """Finds references and verifies them."""

    settings: Images
    own: Mapping[str, str] = field(default_factory=dict[str, str])
    """Images of the user's own services, by name: the reference by digest as configured; empty: built here."""

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
        """Every reference that pods may run: this release's images, and those that a rollout replaces.

        While one is replaced, or when an update stops half-way, a pod of the release before may have to be made again.
        """
        given = {reference for reference in self.own.values() if reference}
        if self.settings.source is ImageSource.REGISTRY:
            locked = [catalogue.image(name) for name in catalogue.image_names()]
            digests = [(image.name, digest) for image in locked for digest in (image.digest, image.former) if digest]
            return sorted(given | {f"{self.settings.registry}/{name}@{digest}" for name, digest in digests})
        names = {*catalogue.image_names(), *self.own}
        records = [*self._index().values(), *self._index("history.json").values()]
        return sorted(given | {f"{r['repository']}@{r['digest']}" for r in records if r["name"] in names})

    def _find(self, name: str) -> str | None:
        if self.settings.source is ImageSource.REGISTRY:
            digest = catalogue.image(name).digest
            return f"{self.settings.registry}/{name}@{digest}" if digest else None
        built = self._index().get(name)
        return f"{built['repository']}@{built['digest']}" if built else None

    def _index(self, sibling: str = "") -> dict[str, dict[str, str]]:
        """The record of what was built here for this registry, or a file beside it."""
        index = os.environ.get(INDEX_VARIABLE)
        if not index:
            return {}
        path = record(Path(index), self.settings.registry)
        return _read(path.with_name(sibling) if sibling else path)

    def _missing(self, name: str) -> str:
        if self.settings.source is ImageSource.REGISTRY:
            return (
                f'image "{name}" {catalogue.image(name).version} is not released: '
                f"{catalogue.LOCK_FILE.name} has no digest for it"
            )
        return f'image "{name}" has not been built on this machine; run `forge up`, or `forge images`'

    def _verify(self, name: str, reference: str) -> None:
        key = os.environ.get(KEY_VARIABLE, "")
        if not key or not Path(key).exists():
            raise ImageError(f'image "{name}": no public key to verify it with; set {KEY_VARIABLE} to a cosign.pub')
        # The key is this installation's own and there is no transparency log to ask.
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
                f'image "{name}" is not what was signed: {reason}\n'
                f"  reference: {reference}\n"
                "  Nothing was changed. If you did not change the image yourself, treat the registry as tampered with; "
                "`forge images --rebuild` builds and signs it again."
            )


def _unknown() -> pulumi.Output[str]:
    """An output that a preview shows as not known yet."""

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
