"""CycloneDX 1.6 SBOMs of images: Debian packages, Python distributions, Go modules and Java archives."""

from __future__ import annotations

import email.parser
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from local.images import maven
from local.images.catalogue import IMAGES, Image
from local.images.context import SUITE

_MAGIC = b"\xff Go buildinf:"


def _debian(rootfs: Path) -> Iterator[Component]:
    """Debian packages that dpkg lists as installed in a root file system."""
    with tarfile.open(rootfs) as archive:
        member = archive.extractfile("./var/lib/dpkg/status")
        assert member is not None, "mmdebstrap always writes the dpkg status"
        status = member.read().decode()
    for stanza in status.split("\n\n"):
        fields = email.parser.HeaderParser().parsestr(stanza)
        if name := fields["Package"]:
            version, arch = fields["Version"], fields["Architecture"]
            purl = PackageURL("deb", "debian", name, version, {"arch": arch, "distro": SUITE})
            yield Component(name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))


def _python(wheels: Path) -> Iterator[Component]:
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            metadata = email.parser.HeaderParser().parsestr(archive.read(name).decode())
        purl = PackageURL("pypi", None, metadata["Name"].lower(), metadata["Version"])
        yield Component(
            name=metadata["Name"],
            version=metadata["Version"],
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            description=metadata["Summary"],
        )


def go_modules(binary: bytes) -> Iterator[tuple[str, str]]:
    """(path, version) of the Go modules that the linker recorded in a binary. Needs no Go on this machine.

    Raises ValueError for a binary without a record. Source of the format: Go's package debug/buildinfo, whose magic is
    followed by flags at byte 15 and, from byte 32, by the version and the modules, each as a length (varint) and text.
    """
    at = binary.find(_MAGIC)
    while at >= 0:
        if at % 16 == 0 and len(binary) > at + 32 and binary[at + 15] & 2:
            _, rest = _text(binary, at + 32)
            modules, _ = _text(binary, rest)
            if len(modules) > 33 and modules[-17:-16] == b"\n":
                for line in modules[16:-16].decode().splitlines():
                    fields = line.split("\t")
                    if len(fields) >= 3 and fields[0] in {"dep", "=>"}:
                        yield fields[1], fields[2]
                return
        at = binary.find(_MAGIC, at + 1)
    raise ValueError("the binary has no record of Go modules")


def _text(binary: bytes, at: int) -> tuple[bytes, int]:
    """A text with its length before it, and where it ends."""
    length = shift = 0
    while True:
        byte = binary[at]
        at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return binary[at : at + length], at + length


def _go(binary: Path) -> Iterator[Component]:
    for path, version in go_modules(binary.read_bytes()):
        namespace, _, name = path.rpartition("/")
        purl = PackageURL("golang", namespace or None, name, version)
        yield Component(name=path, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))


def _java(folder: Path) -> Iterator[Component]:
    for artifact in maven.read_lock(folder):
        purl = PackageURL("maven", artifact.group, artifact.name, artifact.version)
        yield Component(
            name=artifact.name,
            group=artifact.group,
            version=artifact.version,
            type=ComponentType.LIBRARY,
            purl=purl,
            bom_ref=str(purl),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=artifact.sha256)],
        )


def _own_components(image: Image, context: Path) -> Iterator[Component]:
    if image.rootfs:
        yield from _debian(context / "rootfs.tar")
    if image.wheels:
        yield from _python(context / "wheels")
    if image.jars:
        yield from _java(context)
    for tool in image.tools:
        yield from _go(context / tool)


def describe(name: str, digest: str, contexts: Mapping[str, Path], images: Mapping[str, Image] = IMAGES) -> str:
    """SBOM of an image, including its parents, as CycloneDX JSON."""
    bom = Bom()
    purl = PackageURL("oci", None, str(name), digest)
    bom.metadata.component = Component(
        name=f"cogniforge/{name}", version=digest, type=ComponentType.CONTAINER, purl=purl, bom_ref=str(purl)
    )
    seen: set[str] = set()
    queue = [name]
    while queue:
        image = images[queue.pop()]
        queue += image.parents
        for component in _own_components(image, contexts[image.name]):
            if str(component.purl) not in seen:
                seen.add(str(component.purl))
                bom.components.add(component)
    bom.register_dependency(bom.metadata.component, bom.components)
    return json.dumps(json.loads(JsonV1Dot6(bom).output_as_string()), sort_keys=True)
