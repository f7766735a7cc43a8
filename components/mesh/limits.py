"""Reads the services' table of limits (`kit/limits.py`), so that rendered configurations have the same limits.

The table is loaded from its source file, since the platform does not install the services' packages.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from components import sources

_SOURCE = sources.SERVICE_IMAGES / "kit" / "src" / "kit" / "limits.py"


def _table() -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{__package__}._limits", _SOURCE)
    assert spec is not None and spec.loader is not None, f"{_SOURCE} is Python"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up annotations in this table
    spec.loader.exec_module(module)
    return module


def most(name: str) -> int:
    """Maximum of the limit with this name. Raises AttributeError for an unknown name."""
    return int(getattr(_TABLE, name).most)


_TABLE = _table()
