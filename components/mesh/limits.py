"""The table of limits that services have (`kit/limits.py`), for what is rendered to hold the same ones.

It is read from its source: what is deployed has no package of the services.
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
    sys.modules[spec.name] = module  # where its dataclasses look for their names
    spec.loader.exec_module(module)
    return module


def most(name: str) -> int:
    """The most that the limit of this name allows. Raises AttributeError."""
    return int(getattr(_TABLE, name).most)


_TABLE = _table()
