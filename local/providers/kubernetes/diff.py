"""Compares manifests, and tells which changes Kubernetes forbids on a live object."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from local.providers.wire import UNKNOWN, Path, Secret, format_path


class Change(StrEnum):
    """Kind of change of a field."""

    ADD = "add"
    DELETE = "delete"
    UPDATE = "update"


@dataclass(frozen=True)
class FieldChange:
    """A changed field."""

    path: Path
    change: Change

    @property
    def text(self) -> str:
        """Path in Pulumi's notation."""
        return format_path(self.path)


def compare(old: Any, new: Any, path: Path = ()) -> Iterator[FieldChange]:
    """All changed leaves. An unknown new value counts as changed."""
    old = old.value if isinstance(old, Secret) else old
    new = new.value if isinstance(new, Secret) else new
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(k for k in new if k not in old)]:
            yield from _compare_member(old, new, key, path)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            if index >= len(old):
                yield FieldChange((*path, index), Change.ADD)
            elif index >= len(new):
                yield FieldChange((*path, index), Change.DELETE)
            else:
                yield from compare(old[index], new[index], (*path, index))
    elif new is UNKNOWN or old != new or isinstance(old, bool) != isinstance(new, bool):
        yield FieldChange(path, Change.UPDATE)


def _compare_member(old: dict[str, Any], new: dict[str, Any], key: str, path: Path) -> Iterator[FieldChange]:
    # In Kubernetes, a null field is equal to an absent one.
    before, after = old.get(key), new.get(key)
    if before is None and after is None:
        return
    if before is None:
        yield FieldChange((*path, key), Change.ADD)
    elif after is None:
        yield FieldChange((*path, key), Change.DELETE)
    else:
        yield from compare(before, after, (*path, key))


_STATEFUL_SET_MUTABLE = (
    "replicas|ordinals|template|updateStrategy|persistentVolumeClaimRetentionPolicy"
    "|minReadySeconds|revisionHistoryLimit"
)
_IMMUTABLE: dict[str, tuple[str, ...]] = {
    # Sources: the validation of each kind in k8s.io/kubernetes v1.34 (pkg/apis/*/validation).
    "Deployment": (r"spec\.selector",),
    "DaemonSet": (r"spec\.selector",),
    "ReplicaSet": (r"spec\.selector",),
    "StatefulSet": (rf"spec\.(?!({_STATEFUL_SET_MUTABLE})\b)",),
    "Job": (
        r"spec\.(selector|template|completionMode|completions|podFailurePolicy|manualSelector|backoffLimitPerIndex)",
    ),
    "Pod": (
        r"spec\.(?!(activeDeadlineSeconds|tolerations|terminationGracePeriodSeconds)\b"
        r"|(containers|initContainers)\[\d+\]\.image$)",
    ),
    "Service": (r"spec\.(clusterIP|clusterIPs|ipFamilies\[0\])\b",),
    "PersistentVolumeClaim": (r"spec\.(?!resources\b|volumeAttributesClassName\b)",),
    "PersistentVolume": (
        r"spec\.(?!(accessModes|capacity|claimRef|mountOptions|persistentVolumeReclaimPolicy|storageClassName)\b)",
    ),
    "StorageClass": ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    "Secret": ("type",),
    "RoleBinding": ("roleRef",),
    "ClusterRoleBinding": ("roleRef",),
    "IngressClass": (r"spec\.controller",),
    "PriorityClass": ("value", "preemptionPolicy"),
    "RuntimeClass": ("handler",),
    "CSIDriver": (r"spec\.(attachRequired|fsGroupPolicy|volumeLifecycleModes)",),
    "VolumeAttributesClass": ("driverName", "parameters"),
    "CustomResourceDefinition": (r"spec\.(scope|group|names\.(kind|plural))",),
    "PodDisruptionBudget": (),
}
_IDENTITY = re.compile(r"^(metadata\.(name|namespace)|kind)$")


def forbidden(change: FieldChange, kind: str, old: dict[str, Any]) -> bool:
    """Whether a live object does not allow this change, so that it must be replaced."""
    text = change.text
    if _IDENTITY.match(text):
        # Naming the default namespace explicitly does not move the object.
        return not (change.change is Change.ADD and text == "metadata.namespace")
    if (
        kind in {"ConfigMap", "Secret"}
        and old.get("immutable")
        and re.match(r"(data|binaryData|stringData|immutable)\b", text)
    ):
        return True
    if kind == "Service" and change.change is Change.DELETE:
        return False  # dropping clusterIP keeps the assigned one
    return any(re.match(rf"^{pattern}", text) for pattern in _IMMUTABLE.get(kind, ()))
