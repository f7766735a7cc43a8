"""Verifies entries of the audit log with their inclusion proofs, with the functions that Audit itself uses.

They are loaded from their source files, since `forge` does not install the services' packages.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from types import ModuleType
from typing import Any

from components import sources
from components.services.registry import LEDGER

_FOLDER = sources.SERVICE_IMAGES / LEDGER.name / "src" / LEDGER.name


class Unverified(Exception):
    """An entry is not proven. The message says why."""


@functools.cache
def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{__package__}._audit_{name}", _FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None, f"{name}.py is Python"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up annotations in this table
    spec.loader.exec_module(module)
    return module


def checkpoint(text: str, key: str) -> Any:
    """The checkpoint of a signed note, with `size` and `root`. Raises Unverified unless `key` has signed it."""
    try:
        return _load("note").verify(text, key)
    except ValueError as error:
        raise Unverified(f"the checkpoint: {error}") from None


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """The event of an entry: fields of the leaf, with `subject` and `data` if the entry still has its content."""
    event = json.loads(entry["entry"])
    return event | (json.loads(entry["content"]) if entry["content"] is not None else {})


def verify(entry: dict[str, Any], at: Any) -> None:
    """Raise Unverified unless the log of the checkpoint contains the leaf, and the leaf commits to the content."""
    leaf, text = json.loads(entry["entry"]), entry["entry"].encode()
    proof = [bytes.fromhex(part) for part in entry["proof"]]
    if not _load("merkle").verify_inclusion(text, entry["number"], at.size, proof, at.root):
        raise Unverified("the proof does not lead from the entry to the checkpoint")
    if leaf.get("v", 1) < _load("commitment").VERSION:
        raise Unverified("entries of the earlier format do not commit to their content")
    if entry["content"] is None:
        return
    salt = bytes.fromhex(entry["event"]["salt"])
    if _load("commitment").commitment(salt, entry["content"].encode()) != leaf["content"]:
        raise Unverified("the content differs from what the entry commits to")
