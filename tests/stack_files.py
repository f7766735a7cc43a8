"""The stack files as they were when the tests began: end-to-end tests change the local one while others read it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

_PLACE = "COGNIFORGE_TEST_STACKS"
"""Variable with the copies' folder. Processes of the run inherit it."""
_SOURCE = Path(__file__).resolve().parents[1] / "stacks"


def keep() -> Callable[[], None]:
    """Copy the files, unless the run has copies. Returns what removes them."""
    if _PLACE in os.environ:
        return lambda: None
    folder = Path(tempfile.mkdtemp(prefix="cogniforge-stacks-"))
    shutil.copytree(_SOURCE, folder, dirs_exist_ok=True)
    os.environ[_PLACE] = str(folder)

    def remove() -> None:
        del os.environ[_PLACE]
        shutil.rmtree(folder)

    return remove


def stack_file(environment: str) -> dict[str, Any]:
    """The platform's section of an environment's file."""
    text = (Path(os.environ.get(_PLACE, _SOURCE)) / f"Pulumi.{environment}.yaml").read_text()
    return yaml.safe_load(text)["config"]["cogniforge:platform"]
