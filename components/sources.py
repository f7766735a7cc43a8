"""Where the platform's own files lie, and where its user's do.

In a checkout, both are the checkout. The installed package holds its own files, which nobody may write to; the user's
are in the project around the working directory, which `forge init` makes.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import yaml

NAME = "cogniforge"
"""Name of the Pulumi project."""
_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / "service_images").is_dir()
"""Whether this is the package of the wheel, not a checkout."""
ROOT = _PACKAGE if INSTALLED else _PACKAGE.parent
"""The folder with `cli`, `local`, `policies` and `service_images`."""
SERVICE_IMAGES = ROOT / "service_images"


def project_of(folder: Path) -> Path | None:
    """The project of the platform that a folder lies in."""
    for candidate in (folder, *folder.parents):
        file = candidate / "Pulumi.yaml"
        if (candidate / "stacks").is_dir() and file.is_file():
            try:
                found: object = yaml.safe_load(file.read_text())
            except (OSError, yaml.YAMLError):
                return None
            named = isinstance(found, dict) and cast("dict[str, object]", found).get("name") == NAME
            return candidate if named else None
    return None


def project() -> Path:
    """The folder whose `stacks` describe the environments: the working directory, where there is no project yet."""
    if not INSTALLED:
        return ROOT
    try:
        here = Path.cwd()
    except FileNotFoundError:  # the folder is gone
        return Path("/")
    return project_of(here) or here
