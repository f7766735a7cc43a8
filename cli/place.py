"""Which project a command works on."""

from __future__ import annotations

from pathlib import Path

from components import sources
from local import paths
from local.errors import LocalError


def refuse_another_checkout() -> None:
    """Raise LocalError in the folder of another checkout: the user means that one's files and code."""
    try:
        here = sources.project_of(Path.cwd())
    except OSError:  # the current folder was deleted
        return
    if here is None:
        return
    own = f"run {here / '.venv' / 'bin' / 'forge'} (made by `make setup` there)"
    if sources.INSTALLED:
        if (here / "components" / "platform.py").is_file():
            reason = f"this `forge` is an installed package, {sources.ROOT}; the checkout has code of its own"
            raise LocalError(f"this folder belongs to a checkout, {here}", reason=reason, fix=own)
    elif here.resolve() != paths.PROJECT.resolve():
        raise LocalError(
            f"this folder belongs to another checkout, {here}",
            reason=f"this `forge` works on {paths.PROJECT}",
            fix=f"{own}, or change to {paths.PROJECT}",
        )
