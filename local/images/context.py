"""Build contexts: all files that a Containerfile copies, in one folder, with a hash."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock

from components import sources
from components.services.registry import SERVICES
from local import paths
from local.errors import LocalError
from local.images import maven, processes
from local.images.catalogue import Image
from local.toolchain import builder
from local.toolchain.tools import TOOLS

SOURCE_DATE_EPOCH = 1_767_225_600
"""Timestamp of all files and layers, 2026-01-01T00:00:00Z, so that equal content has equal digests."""
PYTHON = "3.11"
RECIPE = "4"
"""Version of the build process. A higher number rebuilds all images."""
SUITE = "bookworm"
DEBIAN = f"debian:{SUITE}-slim"
"""Image in which the user's Docker builds root file systems."""
_EXCLUDES = ("doc", "man", "locale", "info", "lintian", "bug", "groff")


def assemble(image: Image, folder: Path) -> str:
    """Fill `folder` with the build context of `image`. Returns a hash of its content."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(image.folder / "Containerfile", folder)
    for tool in image.tools:
        program = builder.resolve(tool)
        _place(program, folder / tool)
        for file in TOOLS[tool].files:
            _place(program.with_name(Path(file).name), folder / Path(file).name)
    if image.rootfs:
        _place(_rootfs(image.folder / "packages.txt"), folder / "rootfs.tar")
    if image.wheels:
        shutil.copy(image.folder / "requirements.lock", folder)
        shutil.copytree(wheels(image.folder / "requirements.lock"), folder / "wheels", copy_function=os.link)
    if image.jars:
        shutil.copy(image.folder / maven.LOCK, folder)
        shutil.copytree(maven.jars(image.folder), folder / "jars", copy_function=os.link)
    if image.sources:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
        shutil.copytree(image.folder / "src", folder / "src", ignore=ignore)
        _fix_modes(folder / "src")
    if image.documents:
        (folder / "openapi").mkdir(0o755)
        for name in SERVICES:
            shutil.copy(sources.SERVICE_IMAGES / name / "openapi.json", folder / "openapi" / f"{name}.json")
        _fix_modes(folder / "openapi")
    return _hash(folder)


def _fix_modes(folder: Path) -> None:
    """Set file modes that do not depend on the umask of the checkout."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _place(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(folder)).encode() + b"\0")
        with path.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _rootfs(package_list: Path) -> Path:
    """Path of a Debian root file system as a tar archive. It is built once per package list and cached."""
    names = [line for line in package_list.read_text().split("\n") if line and not line.startswith("#")]
    key = hashlib.sha256("\n".join([SUITE, platform.machine(), *_EXCLUDES, *names]).encode()).hexdigest()[:16]
    target = paths.cache() / "rootfs" / f"{SUITE}-{key}.tar"
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            _make_rootfs(names, target)
    return target


def _make_rootfs(names: list[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / "rootfs.tar"
        options = [
            "--variant=essential",
            f"--include={','.join(names)}",
            '--aptopt=Acquire::Languages "none"',
            *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _EXCLUDES),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            # Caches and logs differ between runs and have no use in an image.
            '--customize-hook=rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/etc/machine-id "$1"/etc/hostname '
            '"$1"/etc/resolv.conf',
            SUITE,
        ]
        if os.geteuid() == 0 and shutil.which("mmdebstrap"):
            sources = [str(p) for p in _package_sources() if p.exists()]
            # In its own mount namespace, its mounts disappear with it, even if it is killed.
            away = ("unshare", "--mount", "--propagation", "private")
            command = [*away, "mmdebstrap", *options, str(output), *sources]
        elif shutil.which("docker") is None:
            raise LocalError(
                "the root file system of the base image cannot be built on this machine",
                reason="the build needs root and mmdebstrap, or Docker",
                fix="install Docker, or run as root on Debian; see `forge doctor`",
            )
        else:
            command = _in_docker(options, Path(scratch), output.name)
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
        result = processes.run(command, env)
        if result.returncode != 0:
            raise LocalError(
                "the root file system of the base image could not be built from Debian packages",
                reason="\n       ".join(result.stderr.strip().splitlines()[-6:]),
                fix="check that Debian's package sources are reachable (`apt-get update`), and try again",
            )
        output.replace(target)


def _in_docker(options: list[str], scratch: Path, name: str) -> list[str]:
    """Command that runs mmdebstrap in the user's Docker, for machines without Debian or without root."""
    script = (
        "apt-get -qq update >/dev/null && apt-get -qq install -y mmdebstrap >/dev/null"
        f" && mmdebstrap {shlex.join(options)} {shlex.quote(f'/made/{name}')}"
        f" && chown {os.getuid()}:{os.getgid()} {shlex.quote(f'/made/{name}')}"
    )
    settings = (
        "--rm",
        "--privileged",
        "--volume",
        f"{scratch}:/made",
        "--env",
        f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}",
    )
    return ["docker", "run", *settings, DEBIAN, "sh", "-ec", script]


def _package_sources() -> list[Path]:
    """This machine's apt source files for Debian itself, without third-party sources."""
    folder = Path("/etc/apt/sources.list.d")
    found = [p for p in sorted(folder.glob("*")) if p.suffix in {".sources", ".list"} and "debian" in p.name]
    return found or [Path("/etc/apt/sources.list")]


def wheels(lock: Path) -> Path:
    """Folder with the wheels of a lock file, downloaded once and verified against its hashes."""
    machine = platform.machine()
    key = hashlib.sha256(lock.read_bytes() + machine.encode()).hexdigest()[:16]
    target = paths.cache() / "wheels" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            _download_wheels(lock, machine, target)
    return target


def _download_wheels(lock: Path, machine: str, target: Path) -> None:
    # Preferred platforms first. bookworm has glibc 2.36; GPU libraries use the less common tags.
    platforms = [f"manylinux_2_{n}_{machine}" for n in (31, 28, 17)] + [f"manylinux2014_{machine}"]
    platforms += [f"manylinux_2_{n}_{machine}" for n in (35, 34, 27, 26, 24, 12, 5)]
    platforms += [f"manylinux{old}_{machine}" for old in ("2010", "1")] + [f"linux_{machine}"]
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        output = Path(scratch) / "wheels"
        command = [
            *(
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "--require-hashes",
                "--no-deps",
                "--only-binary=:all:",
            ),
            *("--python-version", PYTHON, "--implementation", "cp", "--abi", f"cp{PYTHON.replace('.', '')}"),
            *("--abi", "abi3", "--abi", "none"),
            *(part for name in platforms for part in ("--platform", name)),
            *("--dest", str(output), "-r", str(lock)),
        ]
        result = processes.run(command)
        if result.returncode != 0:
            raise LocalError(
                f"the wheels of {paths.in_source(lock)} could not be downloaded",
                reason="\n       ".join(result.stderr.strip().splitlines()[-6:]),
                fix="check the network and pip's index settings (`pip config list`), then try again",
            )
        output.replace(target)


def combine(content: str, parents: Iterable[str]) -> str:
    """Hash of a context and of the digests of its parent images."""
    return hashlib.sha256("\n".join([RECIPE, content, *sorted(parents)]).encode()).hexdigest()
