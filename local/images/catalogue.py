"""Catalogue of the project's images, in build order, with the content of each."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from components import sources
from components.services.record import ServiceRecord
from components.services.registry import SERVICES
from local import paths
from local.errors import LocalError
from local.toolchain.tools import ToolName


class ImageName(StrEnum):
    """All images except those of services. The value is the folder under service_images/."""

    PAUSE = "pause"
    BASE = "base"
    KIT = "kit"
    INFERENCE_SIM = "inference-sim"
    GATEWAY = "gateway"
    POSTGRES = "postgres"
    NATS = "nats"
    CACHE = "cache"
    OBJECT_STORE = "object-store"
    OPA = "opa"
    OPENBAO = "openbao"
    EXPORTERS = "exporters"
    PROMETHEUS = "prometheus"
    LOG_STORE = "log-store"
    COLLECTOR = "collector"
    JAEGER = "jaeger"
    JAVA = "java"
    KAFKA = "kafka"
    SCHEMA_REGISTRY = "schema-registry"
    KEYCLOAK = "keycloak"
    DATA_TASKS = "data-tasks"
    ISTIOD = "istiod"
    ISTIO_PROXY = "istio-proxy"
    VLLM = "vllm"


@dataclass(frozen=True)
class Image:
    """Build recipe of an image."""

    name: str
    parents: tuple[str, ...] = ()
    """Parent images, by build argument of the Containerfile (BASE, KIT)."""
    tools: tuple[ToolName, ...] = ()
    """Go programs that are copied into the build context."""
    rootfs: bool = False
    """Whether the context contains a Debian root file system."""
    wheels: bool = False
    """Whether the context contains the wheels of requirements.lock."""
    jars: bool = False
    """Whether the context contains the files of jars.lock."""
    sources: bool = False
    """Whether the context contains src/."""
    documents: bool = False
    """Whether the context contains the OpenAPI documents of all services."""
    gpu: bool = False
    """Whether the image is for GPU nodes. Such images are large, and `forge up` does not build them."""
    asked: bool = False
    """Whether `forge up` builds the image only for an environment that runs it."""
    runs: bool = True
    """Whether pods run the image, which is then signed. Base images are only parents of others."""
    reproducible: bool = True
    """Whether a second build has the same digest."""
    at: Path | None = None
    """Where the Containerfile of a user's own image is; None: in the image's folder under service_images/."""

    @property
    def folder(self) -> Path:
        """Folder of the Containerfile."""
        return self.at or sources.SERVICE_IMAGES / self.name


IMAGES: dict[str, Image] = {
    image.name: image
    for image in (
        Image(ImageName.PAUSE, tools=(ToolName.PAUSE,)),
        Image(ImageName.BASE, rootfs=True, runs=False),
        Image(ImageName.KIT, (ImageName.BASE,), wheels=True, sources=True, runs=False),
        Image(ImageName.INFERENCE_SIM, tools=(ToolName.INFERENCE_SIM,)),
        Image(ImageName.GATEWAY, (ImageName.BASE,), wheels=True),
        Image(ImageName.POSTGRES, rootfs=True, wheels=True, sources=True),
        Image(ImageName.NATS, (ImageName.BASE,), wheels=True),
        Image(ImageName.CACHE, rootfs=True),
        Image(ImageName.OBJECT_STORE, (ImageName.BASE,), tools=(ToolName.OBJECT_STORE,)),
        Image(ImageName.OPA, (ImageName.BASE,), tools=(ToolName.OPA,), asked=True),
        Image(ImageName.ISTIOD, (ImageName.BASE,), tools=(ToolName.PILOT_DISCOVERY,), asked=True),
        Image(ImageName.ISTIO_PROXY, (ImageName.GATEWAY,), tools=(ToolName.PILOT_AGENT,), asked=True),
        Image(ImageName.OPENBAO, (ImageName.BASE,), wheels=True, sources=True, asked=True),
        Image(
            ImageName.EXPORTERS,
            rootfs=True,
            tools=(ToolName.NATS_EXPORTER, ToolName.STATSD_EXPORTER, ToolName.METRICS_DOOR),
        ),
        Image(ImageName.LOG_STORE, (ImageName.BASE,), tools=(ToolName.VICTORIALOGS,), asked=True),
        Image(ImageName.COLLECTOR, (ImageName.BASE,), tools=(ToolName.COLLECTOR,), asked=True),
        Image(ImageName.PROMETHEUS, rootfs=True, tools=(ToolName.PROMETHEUS,), asked=True),
        Image(ImageName.JAEGER, (ImageName.BASE,), tools=(ToolName.JAEGER,), asked=True),
        Image(ImageName.JAVA, (ImageName.BASE,), wheels=True, runs=False),
        Image(ImageName.KAFKA, (ImageName.JAVA,), wheels=True, jars=True, sources=True),
        Image(ImageName.SCHEMA_REGISTRY, (ImageName.JAVA,), jars=True, sources=True),
        # Quarkus generates classes in another order, with other names, at each build.
        Image(ImageName.KEYCLOAK, (ImageName.JAVA,), jars=True, sources=True, asked=True, reproducible=False),
        Image(ImageName.DATA_TASKS, (ImageName.KIT,), sources=True),
        *(
            Image(
                one.image,
                (ImageName.KIT,),
                wheels=one.wheels,
                sources=True,
                documents=one.documents,
                asked=one.asked,
            )
            for one in SERVICES.values()
        ),
        Image(ImageName.VLLM, rootfs=True, wheels=True, sources=True, gpu=True),
    )
}


def own(records: Iterable[ServiceRecord]) -> dict[str, Image]:
    """The images of users' own services that are built here, on the same base images as ours.

    Raises LocalError for a folder without a Containerfile.
    """
    found: dict[str, Image] = {}
    for record in records:
        if not record.built_from:
            continue
        folder = paths.PROJECT / record.built_from
        if not (folder / "Containerfile").is_file():
            raise LocalError(
                f"the image of {record.name} cannot be built",
                reason=f"{folder} has no Containerfile",
                fix=f"correct services.custom.{record.name}.build, or add the file",
            )
        found[record.image] = Image(
            record.image,
            (ImageName.BASE, ImageName.KIT),
            wheels=(folder / "requirements.lock").is_file(),
            sources=(folder / "src").is_dir(),
            at=folder,
        )
    return found


LOCAL: tuple[str, ...] = tuple(name for name, image in IMAGES.items() if not image.gpu)
"""Names of the images that can be built without `--gpu`."""


def needed(run: Container[str]) -> list[str]:
    """Names of the images that `forge up` builds; `run` are those of the environment's optional parts."""
    return [name for name in LOCAL if name in run or not IMAGES[name].asked]
