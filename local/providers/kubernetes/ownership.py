"""Whose an object is. Each carries the mark of its resource from the first write on.

An update that is killed leaves objects that its state does not know. By the mark the next update recognises its own and
goes on with them; what belongs to another resource, another stack or nobody is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from local.providers.kubernetes.cluster import FIELD_MANAGER, Object

URN = "pulumi.cogniforge.dev/urn"
"""Annotation: the URN, which names stack, project, type and resource."""
STATE = "pulumi.cogniforge.dev/state"
"""Label: the id of the provider in the state. Two states of one stack name, in two back ends, differ in it."""


@dataclass(frozen=True)
class Owner:
    """One resource of one state."""

    urn: str
    state: str
    """Empty where the engine does not tell the provider's id: then nothing is marked and nothing recognised."""

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
        """Whether this resource made the object."""
        return bool(self.state) and of(live) == self


def of(live: Object) -> Owner | None:
    """The resource that made an object. None where the mark is missing or was copied by somebody else."""
    meta = live["metadata"]
    urn, state = (meta.get("annotations") or {}).get(URN), (meta.get("labels") or {}).get(STATE)
    if not urn or not state or not any(_wrote_mark(entry) for entry in meta.get("managedFields") or []):
        return None
    return Owner(urn, state)


def _wrote_mark(entry: Object) -> bool:
    """Whether a field manager's entry is the provider's and holds the mark."""
    meta = (entry.get("fieldsV1") or {}).get("f:metadata") or {}
    return entry.get("manager") == FIELD_MANAGER and f"f:{URN}" in (meta.get("f:annotations") or {})


def unmarked(live: Object) -> Object:
    """The object as the program knows it."""
    meta = dict(live["metadata"])
    for name, key in (("annotations", URN), ("labels", STATE)):
        kept = {k: v for k, v in (meta.get(name) or {}).items() if k != key}
        if kept:
            meta[name] = kept
        else:
            meta.pop(name, None)
    return {**live, "metadata": meta}


def unfinished(owner: Owner, candidates: Iterable[Object], recorded: set[str]) -> str | None:
    """The name of an object that an interrupted update made for the owner, and that the state does not have."""
    names = sorted(
        live["metadata"]["name"]
        for live in candidates
        if owner.owns(live) and not live["metadata"].get("deletionTimestamp")
    )
    return next((name for name in names if name not in recorded), None)
