"""Java programs from Maven Central: a pom.xml resolves them, and jars.lock pins each file.

`python -m local.images.maven` resolves every pom.xml again and writes the lock files.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from components import sources
from local import paths
from local.errors import LocalError
from local.images import processes

POM, LOCK = "pom.xml", "jars.lock"
_INDEX = "maven-metadata"
"""Names of the files in which Maven repositories list versions."""


@dataclass(frozen=True)
class Artifact:
    """One file of a Java program."""

    group: str
    name: str
    version: str
    file: str
    sha256: str


def read_lock(folder: Path) -> list[Artifact]:
    """Pinned files of an image's lock, sorted by file name."""
    found: list[Artifact] = []
    for line in (folder / LOCK).read_text().splitlines():
        digest, coordinates, file = line.split()
        group, name, version = coordinates.split(":")
        found.append(Artifact(group, name, version, file, digest))
    return found


def jars(folder: Path, fetch: Callable[[Path, Path], dict[str, Artifact]] | None = None) -> Path:
    """Folder with exactly the locked files, fetched once. Raises LocalError if a file differs from the lock.

    `fetch` downloads the files for the image's folder into another folder and returns them. The default uses Maven.
    """
    key = hashlib.sha256((folder / POM).read_bytes() + (folder / LOCK).read_bytes()).hexdigest()[:16]
    target = paths.cache() / "jars" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                output = Path(scratch) / "jars"
                _check(folder, (fetch or _resolve)(folder, output))
                output.replace(target)
    return target


def _check(folder: Path, found: Mapping[str, Artifact]) -> None:
    locked = {artifact.file: artifact for artifact in read_lock(folder)}
    differing = sorted(name for name in locked.keys() | found.keys() if locked.get(name) != found.get(name))
    if differing:
        raise LocalError(
            f"{len(differing)} files for {folder.name} differ from {LOCK}",
            reason=", ".join(differing[:5]),
            fix=f"if you changed {POM}, run `make lock`; otherwise do not trust the Maven repository in use",
        )


def _resolve(folder: Path, output: Path) -> dict[str, Artifact]:
    """Fetch the dependencies of pom.xml into one flat folder. Returns the artifacts by file name."""
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        command = ["mvn", "-q", "-B", "-f", str(folder / POM), "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", "-Dmdep.useRepositoryLayout=true", f"-DoutputDirectory={scratch}"]
        result = processes.run(command)
        if result.returncode != 0:
            errors = [line for line in result.stdout.splitlines() if "ERROR" in line]
            raise LocalError(
                f"the Java packages of {folder.name} could not be fetched",
                reason="\n       ".join(errors[:4]) or result.stderr.strip(),
                fix="check the network and Maven's settings (~/.m2/settings.xml), then try again",
            )
        output.mkdir(parents=True)
        found: dict[str, Artifact] = {}
        for path in sorted(p for p in Path(scratch).rglob("*") if p.is_file() and not p.name.startswith(_INDEX)):
            *group, name, version, file = path.relative_to(scratch).parts
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, "sha256").hexdigest()
            found[file] = Artifact(".".join(group), name, version, file, digest)
            shutil.move(path, output / file)
            (output / file).chmod(0o644)
        return found


def write_locks(sources: Path) -> None:
    """Resolve every image's pom.xml and write its lock file."""
    for pom in sorted(sources.glob(f"*/{POM}")):
        with tempfile.TemporaryDirectory() as scratch:
            found = _resolve(pom.parent, Path(scratch) / "jars")
        lines = [f"{a.sha256} {a.group}:{a.name}:{a.version} {a.file}" for _, a in sorted(found.items())]
        (pom.parent / LOCK).write_text("\n".join(lines) + "\n")
        print(f"{pom.parent.name}: {len(lines)} files")


if __name__ == "__main__":
    write_locks(sources.SERVICE_IMAGES)
