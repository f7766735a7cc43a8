"""Which checkout a command belongs to."""

from __future__ import annotations

from pathlib import Path

import yaml

from local import paths
from local.errors import LocalError


def checkout_of(folder: Path) -> Path | None:
    """The checkout of the platform that a folder lies in."""
    for candidate in (folder, *folder.parents):
        project = candidate / "Pulumi.yaml"
        if (candidate / "stacks").is_dir() and project.is_file():
            try:
                named = yaml.safe_load(project.read_text())
            except (OSError, yaml.YAMLError):
                return None
            return candidate if isinstance(named, dict) and named.get("name") == "cogniforge" else None
    return None


def refuse_another_checkout() -> None:
    """Raise LocalError in the folder of another checkout: the user means that one's files, and this one has its own."""
    try:
        here = checkout_of(Path.cwd())
    except OSError:  # the folder is gone
        return
    if here is not None and here.resolve() != paths.PROJECT.resolve():
        own = here / ".venv" / "bin" / "forge"
        raise LocalError(
            f"this folder belongs to another checkout, {here}",
            reason=f"this `forge` works on {paths.PROJECT}",
            fix=f"run {own} (made by `make setup` there), or change to {paths.PROJECT}",
        )
