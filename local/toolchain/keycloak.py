"""Keycloak for tests: the files that its image has, built with the same script.

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

from components import sources
from local import paths
from local.errors import LocalError
from local.images import maven

IMAGE = sources.SERVICE_IMAGES / "keycloak"
RUN = IMAGE / "src/run.sh"
"""Starts it: the argument is the configuration file, and KEYCLOAK_HOME its folder."""
_BUILD = IMAGE / "src/build.sh"


def resolve() -> Path:
    """Folder with `bin/kc.sh`, built for `start --optimized`. Raises LocalError if it cannot be fetched or built."""
    (pinned,) = maven.read_lock(IMAGE)
    key = hashlib.sha256(pinned.sha256.encode() + _BUILD.read_bytes()).hexdigest()[:16]
    target = paths.cache() / "tools" / f"keycloak-{key}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                with zipfile.ZipFile(maven.jars(IMAGE) / pinned.file) as archive:
                    archive.extractall(scratch)
                made = Path(scratch) / f"keycloak-{pinned.version}"
                _run(["sh", str(_BUILD), str(made)], pinned.version)
                made.replace(target)
    return target


def _run(command: list[str], version: str) -> None:
    if shutil.which("java") is None:
        raise LocalError("java is missing", fix="run `forge tools --tests`")
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise LocalError(
            f"Keycloak {version} could not be built",
            reason="\n       ".join((result.stdout + result.stderr).strip().splitlines()[-4:]),
            fix="check that the Java runtime is complete, then try again",
        )
