"""Detection of drift: texts are compared literally, quantities by value."""

from __future__ import annotations

from typing import Any

import pytest

from local.providers.kubernetes import objects


def _nested(path: list[Any], value: Any) -> Any:
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    return value


def _drifts(api: str, kind: str, path: list[Any], wanted: str, actual: str) -> bool:
    identity = {"apiVersion": api, "kind": kind}
    ours, theirs = ({**identity, **_nested(path, value)} for value in (wanted, actual))
    return objects.live_inputs(theirs, ours) != ours


_POD = ["spec", "template", "spec"]


@pytest.mark.parametrize(
    ("api", "kind", "path"),
    [
        ("v1", "ConfigMap", ["data", "version"]),
        ("v1", "ConfigMap", ["data", "limits"]),
        ("v1", "Secret", ["stringData2", "limits"]),
        ("v1", "ConfigMap", ["metadata", "annotations", "a"]),
        ("v1", "ConfigMap", ["metadata", "labels", "limits"]),
        ("apps/v1", "Deployment", [*_POD, "containers", 0, "env", 0, "value"]),
        ("apps/v1", "Deployment", [*_POD, "containers", 0, "args", 0]),
        ("apps/v1", "Deployment", [*_POD, "containers", 0, "image"]),
        ("apps/v1", "Deployment", [*_POD, "nodeSelector", "capacity"]),
        ("apps/v1", "Deployment", ["spec", "selector", "matchLabels", "hard"]),
        ("storage.k8s.io/v1", "StorageClass", ["parameters", "capacity"]),
        ("example.com/v1", "Widget", ["spec", "resources", "limits", "cpu"]),
        ("example.com/v1", "Widget", ["spec", "hard", "version"]),
    ],
)
def test_a_text_is_not_a_quantity(api: str, kind: str, path: list[Any]) -> None:
    assert _drifts(api, kind, path, "1.10", "1.1")


@pytest.mark.parametrize(
    ("api", "kind", "path"),
    [
        ("v1", "Pod", ["spec", "containers", 0, "resources", "limits", "cpu"]),
        ("v1", "Pod", ["spec", "resources", "requests", "cpu"]),
        ("v1", "Pod", ["spec", "overhead", "cpu"]),
        ("apps/v1", "Deployment", [*_POD, "initContainers", 0, "resources", "requests", "nvidia.com/gpu"]),
        ("apps/v1", "Deployment", [*_POD, "volumes", 0, "emptyDir", "sizeLimit"]),
        (
            "apps/v1",
            "Deployment",
            [*_POD, "containers", 0, "env", 0, "valueFrom", "resourceFieldRef", "divisor"],
        ),
        ("apps/v1", "StatefulSet", ["spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage"]),
        ("batch/v1", "CronJob", ["spec", "jobTemplate", *_POD, "containers", 0, "resources", "limits", "memory"]),
        ("v1", "PersistentVolumeClaim", ["spec", "resources", "requests", "storage"]),
        ("v1", "PersistentVolume", ["spec", "capacity", "storage"]),
        ("v1", "ResourceQuota", ["spec", "hard", "requests.cpu"]),
        ("v1", "LimitRange", ["spec", "limits", 0, "defaultRequest", "cpu"]),
        ("autoscaling/v2", "HorizontalPodAutoscaler", ["spec", "metrics", 0, "resource", "target", "averageValue"]),
        ("node.k8s.io/v1", "RuntimeClass", ["overhead", "podFixed", "cpu"]),
        ("storage.k8s.io/v1", "CSIStorageCapacity", ["capacity"]),
    ],
)
def test_quantities_are_compared_by_value(api: str, kind: str, path: list[Any]) -> None:
    assert not _drifts(api, kind, path, "1000m", "1")
    assert not _drifts(api, kind, path, "1024Ki", "1Mi")
    assert _drifts(api, kind, path, "1000m", "2")
    assert _drifts(api, kind, path, "1000m", "none")
