"""`forge images`: builds and signs the platform's images."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import documents, output
from cli.options import Format, Output, Stack


def run(
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build all images again, even if they are current.")
    ] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="Include the images for GPU nodes, which download 5 GB.")] = False,
    stack_name: Stack = "local",
    output_format: Output = Format.TEXT,
) -> None:
    """Build and sign the images, and list their digests, with those of the environment's own services."""
    from cli import stack
    from components.config.images import ImageSource
    from local.images import pipeline
    from local.images.catalogue import IMAGES, LOCAL, own

    config = stack.read_config(stack_name)
    records, registry = config.around.records.values(), config.images.registry
    if config.images.source is not ImageSource.LOCAL_BUILD:
        registry = ""  # released images are in it, which `forge release` pushes

    if output_format is Format.JSON:
        output.only_documents()
    if rebuild:
        pipeline.forget(registry)
    found = pipeline.build(IMAGES if gpu else LOCAL, output.say, registry=registry, own=own(records)).values()
    images = [documents.BuiltImage(name=b.name, reference=b.reference, digest=b.digest, signed=b.signed) for b in found]
    # An image by digest is the user's: it is neither built nor signed here.
    images += [
        documents.BuiltImage(
            name=record.name, reference=record.reference, digest=record.reference.rpartition("@")[2], signed=False
        )
        for record in records
        if record.reference
    ]
    if output_format is Format.JSON:
        output.document(documents.Images(images=images))
        return
    for image in images:
        print(f"{image.name:21} {image.digest}{' signed' if image.signed else ''}")
