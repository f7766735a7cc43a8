"""Ownership of objects. Each object has a mark with its resource from its creation on.

A killed update leaves objects that its state lacks. By their mark, the next update recognises and adopts its own
objects. Objects of other resources, other stacks or without a mark stay untouched.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from local.providers.kubernetes.cluster import FIELD_MANAGER, Object

URN = "pulumi.cogniforge.dev/urn"
"""Annotation with the URN, which contains stack, project, type and resource."""
STATE = "pulumi.cogniforge.dev/state"
"""Label with the ID of the provider in the state. It differs between stacks of the same name in different backends."""


@dataclass(frozen=True)
class Owner:
    """A resource of a state."""

    urn: str
    state: str
    """ID of the provider. Empty if the engine does not send it; then objects are neither marked nor recognised."""

    def mark(self, manifest: Object) -> Object:
        """The manifest with this owner's mark."""
        if not self.state:
            return manifest
        meta = manifest["metadata"]
        marks = {
            "annotations": {**(meta.get("annotations") or {}), URN: self.urn},
            "labels": {**(meta.get("labels") or {}), STATE: self.state},
        }
        return {**manifest, "metadata": {**meta, **marks}}

    def owns(self, live: Object) -> bool:
        """Whether this resource created the object."""
        return bool(self.state) and of(live) == self


def of(live: Object) -> Owner | None:
    """The resource that created an object. None if the mark is missing or was copied from another object."""
    meta = live["metadata"]
    urn, state = (meta.get("annotations") or {}).get(URN), (meta.get("labels") or {}).get(STATE)
    if not urn or not state or not any(_wrote_mark(entry) for entry in meta.get("managedFields") or []):
        return None
    return Owner(urn, state)


def _wrote_mark(entry: Object) -> bool:
    """Whether a field manager's entry belongs to the provider and contains the mark."""
    meta = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
    return entry.get("manager") == FIELD_MANAGER and f"f:{URN}" in (meta.get("f:annotations") or {})


def unmarked(live: Object) -> Object:
    """The object without the mark."""
    meta = dict(live["metadata"])
    for name, key in (("annotations", URN), ("labels", STATE)):
        kept = {k: v for k, v in (meta.get(name) or {}).items() if k != key}
        if kept:
            meta[name] = kept
        else:
            meta.pop(name, None)
    return {**live, "metadata": meta}


def unfinished(owner: Owner, candidates: Iterable[Object], recorded: set[str]) -> str | None:
    """Name of an object that an interrupted update created for the owner, and that the state lacks."""
    names = sorted(
        live["metadata"]["name"]
        for live in candidates
        if owner.owns(live) and not live["metadata"].get("deletionTimestamp")
    )
    return next((name for name in names if name not in recorded), None)
