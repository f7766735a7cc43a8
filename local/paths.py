"""Folders of the local environment: one state folder and one cache folder.

`COGNIFORGE_HOME` and `COGNIFORGE_CACHE` set their paths. The defaults follow the XDG base directories.
"""

from __future__ import annotations

import os
from pathlib import Path

from components import sources

PROJECT = sources.project()
"""The folder whose `stacks` describe the environments."""


def _folder(override: str, xdg: str, fallback: str) -> Path:
    if value := os.environ.get(override):
        return Path(value).expanduser().resolve()
    base = os.environ.get(xdg) or str(Path.home() / fallback)
    return Path(base) / "cogniforge"


def state() -> Path:
    """State folder: cluster data, keys, Pulumi state, image records. `forge reset` deletes it."""
    return _folder("COGNIFORGE_HOME", "XDG_STATE_HOME", ".local/state")


def cache() -> Path:
    """Cache folder: compiled tools and downloaded packages, which can be rebuilt. `forge reset` keeps it."""
    return _folder("COGNIFORGE_CACHE", "XDG_CACHE_HOME", ".cache")


def in_source(path: Path) -> Path:
    """The path of a source file, relative to the platform's own files or to the user's project."""
    root = next((root for root in (sources.ROOT, PROJECT) if path.is_relative_to(root)), None)
    return path.relative_to(root) if root else path


def private_folder(path: Path) -> Path:
    """Create a folder that only its owner can access."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def write_private(path: Path, data: bytes | str) -> None:
    """Write a file with mode 0600 atomically: readers see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(path, data.encode() if isinstance(data, str) else data, 0o600)


def rewrite(path: Path, text: str) -> None:
    """Replace the text of an existing file atomically. Its mode stays."""
    _replace(path, text.encode(), path.stat().st_mode & 0o777)


def _replace(path: Path, content: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as handle:
        os.fchmod(descriptor, mode)  # whatever the umask says
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
