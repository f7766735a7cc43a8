"""`forge release`: pushes signed images to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import output
from components import sources
from components.catalogue import LOCK_FILE
from local.errors import LocalError


def run(
    registry: Annotated[
        str, typer.Argument(help="Registry as host[:port][/path], like images.registry in stack files.")
    ],
    lock: Annotated[Path, typer.Option(help="Lock file that the digests are written to.")] = LOCK_FILE,
    gpu: Annotated[bool, typer.Option("--gpu", help="Include the images for GPU nodes.")] = False,
) -> None:
    """Push the signed images with SBOM and provenance to a registry, and write their digests to the lock file."""
    from cli import release as releases
    from local.images import pipeline
    from local.images.catalogue import IMAGES, LOCAL, ImageName

    if sources.INSTALLED and lock == LOCK_FILE:
        raise LocalError(
            "the installed package cannot be released",
            reason=f"the digests go into {lock.name}, and what is installed is not written to",
            fix="release from a checkout of the platform, and install the wheel of that commit",
        )
    releases.check_registry(registry)
    wanted = [name for name in (IMAGES if gpu else LOCAL) if IMAGES[name].runs and name is not ImageName.PAUSE]
    found = pipeline.build(wanted, output.say)
    built = {str(name): found[name] for name in wanted}
    releases.refuse_changed(built, lock)
    for reference in releases.push(built, registry, lock, output.say).values():
        print(reference)
