"""What the services say about the audit log and its requests, with the functions that they use themselves.

They are loaded from their source files, since `forge` does not install the services' packages.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
from types import ModuleType

from components import sources

_FOLDER = sources.SERVICE_IMAGES / "kit" / "src" / "kit" / "ledger"


@functools.cache
def load(name: str) -> ModuleType:
    """A module of the kit's package about the log."""
    _package()
    return importlib.import_module(f"{__package__}._ledger.{name}")


def proof() -> ModuleType:
    """Functions that verify entries with their inclusion proofs."""
    return load("proof")


def life() -> ModuleType:
    """Functions that make what Audit and Billing know about a request one explanation."""
    return load("life")


def spans() -> ModuleType:
    """Functions that read the spans of a request's trace."""
    return load("spans")


@functools.cache
def _package() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"{__package__}._ledger", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
    )
    assert spec is not None and spec.loader is not None, "the package is Python"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its modules are found below it
    spec.loader.exec_module(module)
    return module
