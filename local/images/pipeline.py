"""Builds, signs and records the images, with SBOM and provenance. Only changed images are built."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import urllib3
from filelock import FileLock

from components.config.images import record, speaks_plain_http
from local import paths
from local.errors import LocalError
from local.images import context as contexts
from local.images import cosign, engine, provenance, sbom, schedule
from local.images.catalogue import IMAGES, LOCAL, Image
from local.node import preflight, settings

MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
_NODES = f"{settings.REGISTRY}/cogniforge"
KEPT = 5
"""Number of earlier builds per image that the history keeps."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """Record of a built image."""

    name: str
    repository: str
    digest: str
    context_hash: str
    engine: str
    signed: bool = False

    @property
    def reference(self) -> str:
        """Reference by digest, the only form that pods use."""
        return f"{self.repository}@{self.digest}"


def index_file(registry: str = "") -> Path:
    """File with the current images for a registry, which the Pulumi program reads. Empty means the local node's."""
    return record(paths.state() / "images" / "index.json", registry)


def history_file(registry: str = "") -> Path:
    """File with earlier builds, so that going back to earlier content, such as an older pin, needs no build."""
    return index_file(registry).with_name("history.json")


def forget(registry: str = "") -> None:
    """Make the next build for a registry rebuild all images."""
    index_file(registry).unlink(missing_ok=True)
    history_file(registry).unlink(missing_ok=True)


def read_index(registry: str = "") -> dict[str, Built]:
    """Images that were built on this machine for a registry, by name; empty before the first build."""
    return _read(index_file(registry))


def read_history(registry: str = "") -> list[Built]:
    """Earlier builds for a registry. After an interrupted update, pods may still run one of these."""
    return list(_read(history_file(registry)).values())


def _read(file: Path) -> dict[str, Built]:
    try:
        return {name: Built(**record) for name, record in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise LocalError(
            f"the image record {file} is damaged",
            reason=str(error),
            fix="delete it; `forge up` then builds the images again",
        ) from None


def in_registry(built: Built) -> bool:
    """Whether the registry still has the image's manifest."""
    host, _, repository = built.repository.partition("/")
    scheme = "http" if speaks_plain_http(host) else "https"
    url = f"{scheme}://{host}/v2/{repository}/manifests/{built.digest}"
    try:
        response = urllib3.PoolManager().request(
            "HEAD", url, headers={"Accept": MANIFEST_TYPES}, timeout=5.0, retries=False
        )
    except urllib3.exceptions.HTTPError:
        return False
    return response.status == 200


def _save(index: dict[str, Built], file: Path) -> None:
    paths.write_private(file, json.dumps({k: asdict(v) for k, v in index.items()}, indent=2))


def _remember(history: dict[str, Built], built: Built) -> None:
    """Add the image to the history, and drop its oldest builds beyond the limit."""
    place = _place(built.name, built.context_hash)
    history.pop(place, None)  # the newest entry is the last
    history[place] = built
    older = [place for place, one in history.items() if one.name == built.name]
    for place in older[:-KEPT]:
        del history[place]


def _place(name: str, context_hash: str) -> str:
    return f"{name} {context_hash}"


def build(
    names: Iterable[str] = LOCAL,
    say: Say = lambda _: None,
    *,
    sign: bool = True,
    registry: str = "",
    own: Mapping[str, Image] = MappingProxyType({}),
    pushed: Callable[[str], None] = lambda _: None,
) -> dict[str, Built]:
    """Bring the images of `names` and their parents up to date; returns the whole record of the registry.

    `registry` is host[:port][/path]; empty: the local node's. `own` are images of users' own services, built besides.
    `pushed` gets the reference of each image for pods that is new in the registry.
    What was built before an error is recorded, and the next build goes on from there.
    """
    folder = paths.private_folder(paths.state() / "images")
    images = {**IMAGES, **own}
    wanted = _with_parents([*names, *own], images)
    with FileLock(folder / "lock"):
        work = _Work(folder, say, sign, registry, images, pushed)
        schedule.run({name: images[name].parents for name in images if name in wanted}, work.build, work.certify)
        work.end()
        return work.index


def _with_parents(names: Iterable[str], images: Mapping[str, Image]) -> set[str]:
    result: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        result.add(name)
        queue += images[name].parents
    return result


class _Work:
    """Builds and signs single images from several threads, and maintains the record."""

    def __init__(
        self,
        folder: Path,
        say: Say,
        sign: bool,
        registry: str,
        images: Mapping[str, Image],
        pushed: Callable[[str], None],
    ) -> None:
        self._registry, self._images = registry, images
        self.index = read_index(registry)
        self._history = _read(history_file(registry)) | {
            _place(one.name, one.context_hash): one for one in self.index.values()
        }
        self._folders = {name: folder / "contexts" / name for name in images}
        self._builder: engine.Engine | None = None
        self._say, self._sign, self._pushed = say, sign, pushed
        self._lock = threading.Lock()
        self._contents: dict[str, tuple[str, datetime]] = {}

    def build(self, name: str) -> None:
        """Build the image, unless the registry has one with the same content. Its parents must be built."""
        image, started = self._images[name], datetime.now(UTC)
        if image.rootfs and name not in self.index:
            self._say(f"building the Debian root file system of {name}")
        content = contexts.assemble(image, self._folders[name])
        self._contents[name] = content, started
        key = contexts.combine(content, [self.index[p].digest for p in image.parents])
        have = self._history.get(_place(name, key))
        if have is None or not in_registry(have):
            builder = self._engine()
            preflight.check_disk(paths.state(), engine.BUILD_DISK_BYTES)
            repository = f"{self._registry or _NODES}/{name}"
            arguments = {p.name: self.index[p].reference for p in image.parents}
            digest = builder.build_and_push(self._folders[name], f"{repository}:{key[:12]}", arguments)
            have = Built(name, repository, digest, key, builder.name)
            self._say(f"built {name} in {(datetime.now(UTC) - started).total_seconds():.0f} s")
            if image.runs:
                self._pushed(have.reference)
        self._record(have)

    def certify(self, name: str) -> None:
        """Sign the image and attach SBOM and provenance, unless that is done."""
        built = self.index[name]
        if not self._sign or not self._images[name].runs or built.signed:
            return
        started = time.monotonic()
        content, begun = self._contents[name]
        parents = {self.index[p].reference: self.index[p].digest for p in self._images[name].parents}
        _certify(built, self._images, self._folders, content, parents, begun)
        self._record(replace(built, signed=True))
        self._say(f"signed {name} in {time.monotonic() - started:.0f} s: SBOM, signature, provenance")

    def end(self) -> None:
        """Release the resources of the build."""
        _save(self._history, history_file(self._registry))
        if isinstance(self._builder, engine.Buildah):
            self._builder.clean()

    def _engine(self) -> engine.Engine:
        with self._lock:
            if self._builder is None:
                self._builder = engine.choose()
                if isinstance(self._builder, engine.Buildah):
                    self._builder.clean()  # leftovers of a killed build are not reused
            return self._builder

    def _record(self, built: Built) -> None:
        with self._lock:
            self.index[built.name] = built
            _save(self.index, index_file(self._registry))
            _remember(self._history, built)


def _certify(
    built: Built,
    images: Mapping[str, Image],
    folders: dict[str, Path],
    content: str,
    parents: dict[str, str],
    started: datetime,
) -> None:
    cosign.ensure_key()
    name = built.name
    cosign.sign(built.reference)
    cosign.attest(built.reference, "cyclonedx", sbom.describe(name, built.digest, folders, images))
    file = paths.in_source(images[name].folder / "Containerfile")
    statement = provenance.predicate(name, str(file), folders[name], content, parents, built.engine, started)
    cosign.attest(built.reference, "slsaprovenance1", statement)
