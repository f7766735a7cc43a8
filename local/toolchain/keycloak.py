"""Keycloak from Maven Central: fetched, verified and built once, for tests of logins.

Needs Maven and its Java runtime.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from local import paths
from local.errors import LocalError

VERSION = "26.5.6"
SHA256 = "490189d9dff05272432d51f71a069462eeca97f2920a694d539a1e6c26a5a347"
_ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:zip"
_BUILT_FOR = ("--db=dev-mem", "--features-disabled=account,admin,ciba,device-flow,kerberos,organization")


def resolve() -> Path:
    """Folder with `bin/kc.sh`, built for `start --optimized`. Raises LocalError if it cannot be fetched or built."""
    key = hashlib.sha256(" ".join((SHA256, *_BUILT_FOR)).encode()).hexdigest()[:16]
    target = paths.cache() / "tools" / f"keycloak-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                made = _unpacked(_fetched(Path(scratch)), Path(scratch) / "unpacked")
                _run(["bash", str(made / "bin/kc.sh"), "build", *_BUILT_FOR])
                made.replace(target)
    return target


def _fetched(folder: Path) -> Path:
    command = ["mvn", "-q", "-B", "dependency:copy"]
    _run([*command, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}"])
    file = folder / f"keycloak-quarkus-dist-{VERSION}.zip"
    with file.open("rb") as handle:
        found = hashlib.file_digest(handle, "sha256").hexdigest()
    if found != SHA256:
        raise LocalError(
            f"the file of Keycloak {VERSION} differs from its pin",
            reason=f"its SHA-256 is {found}",
            fix="do not trust the Maven repository in use",
        )
    return file


def _unpacked(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder / f"keycloak-{VERSION}"


def _run(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        raise LocalError(f"{command[0]} is missing", fix="run `forge tools --tests`")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise LocalError(
            f"Keycloak {VERSION} could not be built",
            reason="\n       ".join((result.stdout + result.stderr).strip().splitlines()[-4:]),
            fix="check the network and Maven's settings (~/.m2/settings.xml), then try again",
        )
