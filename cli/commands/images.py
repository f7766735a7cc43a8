"""`forge images`: builds and signs the platform's images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import documents, output
from cli.options import Format, Output


def run(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build all images again, even if they are current.")
    ] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Include the images for GPU nodes, which download 5 GB.")] = False,
    output_format: Output = Format.TEXT,
) -> None:
    """Build and sign the images, and list their digests."""
    from local.images import pipeline
    from local.images.catalogue import IMAGES, LOCAL

    if output_format is Format.JSON:
        output.only_documents()
    if rebuild:
        pipeline.forget()
    found = list(pipeline.build(IMAGES if gpu else LOCAL, output.say).values())
    if output_format is Format.TEXT:
        for built in found:
            print(f"{built.name:21} {built.digest}{' signed' if built.signed else ''}")
        return
    images = [documents.BuiltImage(name=b.name, reference=b.reference, digest=b.digest, signed=b.signed) for b in found]
    output.document(documents.Images(images=images))
