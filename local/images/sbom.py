"""CycloneDX 1.6 SBOMs of images: Debian packages, Python distributions, Go modules and Java archives."""

from __future__ import annotations

import email.parser
import json
import re
import subprocess
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


def _go(binary: Path) -> Iterator[Component]:
    """Go modules that the linker recorded in a binary."""
    listing = subprocess.run(["go", "version", "-m", str(binary)], capture_output=True, text=True, check=True).stdout
    for line in listing.splitlines():
        fields = line.split("\t")
        if len(fields) >= 4 and fields[1] in {"dep", "=>"}:
            namespace, _, name = fields[2].rpartition("/")
            purl = PackageURL("golang", namespace or None, name, fields[3])
            yield Component(name=fields[2], version=fields[3], type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl))


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
