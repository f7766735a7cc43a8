"""Image builders: the user's Docker if it runs, otherwise buildah."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Protocol

from components.config.images import speaks_plain_http
from local import paths
from local.errors import LocalError
from local.images import processes
from local.images.context import SOURCE_DATE_EPOCH

BUILD_DISK_BYTES = 3 * 1024**3


class Engine(Protocol):
    """A container image builder."""

    name: str

    def build_and_push(self, context: Path, reference: str, arguments: dict[str, str]) -> str:
        """Build `context` as `reference` and push it. Returns the manifest's digest ("sha256:...")."""
        ...


def _run(command: list[str], what: str, env: dict[str, str] | None = None) -> str:
    result = processes.run(command, {**os.environ, **(env or {})})
    if result.returncode != 0:
        raise LocalError(
            f"{what} failed",
            reason="\n       ".join((result.stderr or result.stdout).strip().splitlines()[-10:]),
            fix=f"the command was: {' '.join(command)}",
        )
    return result.stdout


class Buildah:
    """Debian's buildah with its own store. It needs no daemon.

    The store uses the overlay driver if the file system supports it, which writes each layer once. Otherwise it uses
    the vfs driver: each layer is a full copy of its parent, and files in layers have another order, so digests differ.
    """

    name = "buildah"

    def __init__(self) -> None:
        root = paths.private_folder(paths.state() / "images")
        driver = "overlay" if _overlay_works(root) else "vfs"
        self._store = [
            *("--root", str(root / f"store-{driver}")),
            *("--runroot", str(root / f"run-{driver}")),
            *("--storage-driver", driver),
        ]
        self._env = {"BUILDAH_ISOLATION": "chroot", "TMPDIR": str(root), "STORAGE_OPTS": ""}

    def _buildah(self, what: str, *args: str) -> str:
        return _run(["buildah", *self._store, *args], what, self._env)

    def build_and_push(self, context: Path, reference: str, arguments: dict[str, str]) -> str:
        """See `Engine`."""
        digest_file = context.parent / f"{context.name}.digest"
        tls = f"--tls-verify={str(not speaks_plain_http(reference)).lower()}"
        build_arguments = [part for k, v in arguments.items() for part in ("--build-arg", f"{k}={v}")]
        self._buildah(
            f"building {reference}",
            *("bud", "--quiet", "--timestamp", str(SOURCE_DATE_EPOCH), tls),
            # The history would contain the parent's tag in the local store.
            "--omit-history",
            *(
                "--format",
                "oci",
                *build_arguments,
                "--tag",
                reference,
                "--file",
                str(context / "Containerfile"),
            ),
            str(context),
        )
        self._buildah(
            f"pushing {reference}",
            *("push", "--quiet", tls, "--digestfile", str(digest_file)),
            *(reference, f"docker://{reference}"),
        )
        return digest_file.read_text().strip()

    def clean(self) -> None:
        """Empty the store, including leftovers of a killed build. All results are in the registry."""
        self._buildah("removing the build store", "rm", "--all")
        self._buildah("removing the build store", "rmi", "--all", "--force")


@functools.cache
def _overlay_works(folder: Path) -> bool:
    """Whether this file system supports an overlay on top. Another overlay, as inside a container, does not."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        for name in ("lower", "upper", "work", "merged"):
            Path(made, name).mkdir()
        options = f"lowerdir={made}/lower,upperdir={made}/upper,workdir={made}/work"
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, f"{made}/merged"]
        # In its own mount namespace, so that nothing has to be unmounted.
        command = ["unshare", "--mount", "--propagation", "private", *mount]
        return subprocess.run(command, capture_output=True).returncode == 0


class Docker:
    """The user's Docker engine."""

    name = "docker"

    def build_and_push(self, context: Path, reference: str, arguments: dict[str, str]) -> str:
        """See `Engine`."""
        settings = {**arguments, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
        build_arguments = [part for k, v in settings.items() for part in ("--build-arg", f"{k}={v}")]
        _run(
            ["docker", "build", "--quiet", *build_arguments, "--tag", reference, str(context)],
            f"building {reference}",
            {"DOCKER_BUILDKIT": "1"},
        )
        _run(["docker", "push", "--quiet", reference], f"pushing {reference}")
        digests = json.loads(_run(["docker", "inspect", "--format", "{{json .RepoDigests}}", reference], "inspecting"))
        repository = reference.rsplit(":", 1)[0]
        return next(d.split("@")[1] for d in digests if d.startswith(repository + "@"))


@functools.cache
def _docker_runs() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def docker_runs() -> bool:
    """Whether a Docker engine runs on this machine."""
    return _docker_runs()


def choose() -> Engine:
    """Docker if an engine runs on this machine, otherwise buildah."""
    return Docker() if _docker_runs() else Buildah()
