"""Verifies entries of the log, as Audit's API returns them, with their inclusion proofs."""

from __future__ import annotations

import json
from typing import Any

from . import commitment, merkle, note


class Unverified(Exception):
    """An entry is not proven. The message says why."""


def checkpoint(text: str, key: str) -> note.Checkpoint:
    """The checkpoint of a signed note. Raises Unverified unless `key` has signed it."""
    try:
        return note.verify(text, key)
    except ValueError as error:
        raise Unverified(f"the checkpoint: {error}") from None


def shown(entry: dict[str, Any]) -> dict[str, Any]:
    """The event of an entry: fields of the leaf, with `subject` and `data` if the entry still has its content."""
    event = json.loads(entry["entry"])
    return event | (json.loads(entry["content"]) if entry["content"] is not None else {})


def verify(entry: dict[str, Any], at: note.Checkpoint) -> None:
    """Raise Unverified unless the log of the checkpoint contains the leaf, and the leaf commits to the content."""
    leaf, text = json.loads(entry["entry"]), entry["entry"].encode()
    proof = [bytes.fromhex(part) for part in entry["proof"]]
    if not merkle.verify_inclusion(text, entry["number"], at.size, proof, at.root):
        raise Unverified("the proof does not lead from the entry to the checkpoint")
    if leaf.get("v", 1) < commitment.VERSION:
        raise Unverified("entries of the earlier format do not commit to their content")
    if entry["content"] is None:
        return
    salt = bytes.fromhex(entry["event"]["salt"])
    if commitment.commitment(salt, entry["content"].encode()) != leaf["content"]:
        raise Unverified("the content differs from what the entry commits to")
