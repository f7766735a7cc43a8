"""Schemas of other projects for tests: from the cache, or else the reason to skip a test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local import paths
from local.errors import LocalError
from local.toolchain import upstream_schemas


def documents(project: str, pattern: str = "*.json") -> Iterator[dict[str, Any]]:
    """Documents of a project's schemas, downloaded at the first call. If that fails, only CI fails; others skip."""
    try:
        folder = upstream_schemas.resolve(project)
    except LocalError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    for file in sorted(folder.glob(pattern)):
        yield from json.loads(file.read_text())


def unpackaged(path: str) -> Path:
    """A file that is in no package, in the folder PLATFORM_SCHEMAS; without it, the test is skipped."""
    folder = Path(os.environ.get("PLATFORM_SCHEMAS", str(paths.PROJECT.parent / "shared" / "schemas")))
    file = folder / path
    if not file.exists():
        pytest.skip(f"{file} is absent, and no package carries it: set PLATFORM_SCHEMAS to a folder that has {path}")
    return file
