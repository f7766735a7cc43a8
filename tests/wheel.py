"""The wheel of this checkout, and virtual environments that contain it and nothing of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from local import paths


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def build(folder: Path, checkout: Path = paths.PROJECT, *settings: str) -> Path:
    """Build the wheel with the installed packages."""
    built = pip("wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), *settings, str(checkout))
    assert built.returncode == 0, built.stderr
    return next(folder.glob("cogniforge-*.whl"))


def install(wheel: Path, folder: Path) -> Path:
    """Interpreter of a virtual environment with the wheel and exactly its requirements."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    result = pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    assert result.returncode == 0, result.stderr
    (site,) = (folder / "lib").glob("python*/site-packages")
    (own,) = metadata.distributions(name="cogniforge", path=[str(site)])
    for name in _wanted(own):
        _link(metadata.distribution(name), site)
    return python


def environment(folder: Path, *names: str) -> None:
    """A virtual environment with pip, the named distributions of this environment, and all that these need."""
    venv.create(folder, symlinks=True)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in {"pip", *names}.union(*(_wanted(metadata.distribution(name)) for name in names)):
        _link(metadata.distribution(name), site)


def _wanted(root: metadata.Distribution) -> set[str]:
    """Names of the distributions that a distribution requires, recursively."""
    found: set[tuple[str, str]] = set()
    waiting = list(_asked(root, ""))
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) not in found:
            found.add((name, extra))
            waiting += _asked(metadata.distribution(name), extra)
    return {name for name, _ in found}


def _asked(one: metadata.Distribution, extra: str) -> Iterator[tuple[str, str]]:
    for text in one.requires or ():
        asked = Requirement(text)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            yield from ((canonicalize_name(asked.name), wanted) for wanted in ("", *asked.extras))


def _link(one: metadata.Distribution, site: Path) -> None:
    """Link or copy the files of an installed distribution to another folder."""
    for file in one.files or ():
        if file.parts[0] == "..":  # a script of another interpreter
            continue
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(Path(str(file.locate())).resolve(), target)
        except OSError:
            shutil.copy2(str(file.locate()), target)
