"""Which changes replace an object and which update it: one engine run, one case per kind and field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi_kubernetes as k8s
import pytest

from tests.engine.conftest import Engine

pytestmark = pytest.mark.engine


def _deployment(app: str, image: str, **spec: Any) -> dict[str, Any]:
    pod = {"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}]}}
    return {"replicas": 0, "selector": {"match_labels": {"app": app}}, "template": pod, **spec}


def _cases(namespace: str, image: str, changed: bool) -> dict[str, Any]:
    """name -> (class, arguments); `changed` selects the second definition."""

    def pick(old: Any, new: Any) -> Any:
        return new if changed else old

    def meta(**extra: Any) -> dict[str, Any]:
        return {"namespace": namespace, "annotations": {"pulumi.com/skipAwait": "true"}, **extra}

    def claim(size: str, mode: str) -> dict[str, Any]:
        return {"access_modes": [mode], "resources": {"requests": {"storage": size}}}

    def job(command: str) -> dict[str, Any]:
        pod = {"restart_policy": "Never", "containers": [{"name": "c", "image": image, "command": [command]}]}
        return {"suspend": True, "template": {"spec": pod}}

    def stateful(**spec: Any) -> dict[str, Any]:
        return {"service_name": "none", **_deployment("s", image), **spec}

    def pod(name: str, **spec: Any) -> dict[str, Any]:
        return {"containers": [{"name": name, "image": image}], **spec}

    def subject(name: str) -> list[dict[str, str]]:
        return [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]

    def role_ref(name: str) -> dict[str, str]:
        return {"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": name}

    def storage(mode: str) -> dict[str, Any]:
        return {"provisioner": "none.example.com", "volume_binding_mode": mode}

    apps, core, rbac = k8s.apps.v1, k8s.core.v1, k8s.rbac.v1
    return {
        "deployment-selector": (apps.Deployment, {"metadata": meta(), "spec": _deployment(pick("a", "b"), image)}),
        "deployment-replicas": (
            apps.Deployment,
            {"metadata": meta(), "spec": _deployment("c", image, revision_history_limit=pick(1, 2))},
        ),
        "daemonset-selector": (
            apps.DaemonSet,
            {
                "metadata": meta(),
                "spec": {
                    k: v for k, v in _deployment(pick("d", "e"), "none.example.com/none:1").items() if k != "replicas"
                },
            },
        ),
        "statefulset-service": (
            apps.StatefulSet,
            {"metadata": meta(), "spec": stateful(service_name=pick("x", "y"))},
        ),
        "statefulset-template": (
            apps.StatefulSet,
            {"metadata": meta(), "spec": stateful(min_ready_seconds=pick(1, 2))},
        ),
        "job-template": (k8s.batch.v1.Job, {"metadata": meta(), "spec": job(pick("/a", "/b"))}),
        "claim-mode": (
            core.PersistentVolumeClaim,
            {"metadata": meta(), "spec": claim("1Mi", pick("ReadWriteOnce", "ReadWriteOncePod"))},
        ),
        "pod-container-name": (
            core.Pod,
            {"metadata": meta(), "spec": pod(pick("a", "b"), restart_policy="Never")},
        ),
        "service-port": (
            core.Service,
            {"metadata": meta(), "spec": {"selector": {"a": "b"}, "ports": [{"port": pick(80, 81)}]}},
        ),
        "service-cluster-ip": (
            core.Service,
            {"metadata": meta(), "spec": {"cluster_ip": pick("None", "198.19.77.77"), "ports": [{"port": 80}]}},
        ),
        "configmap-data": (core.ConfigMap, {"metadata": meta(), "data": {"k": pick("1", "2")}}),
        "configmap-immutable": (
            core.ConfigMap,
            {"metadata": meta(), "immutable": True, "data": {"k": pick("1", "2")}},
        ),
        "secret-data": (core.Secret, {"metadata": meta(), "string_data": {"k": pick("1", "2")}}),
        "secret-type": (
            core.Secret,
            {"metadata": meta(), "type": pick("Opaque", "example.com/x"), "string_data": {"k": "1"}},
        ),
        "namespace-of-object": (
            core.ConfigMap,
            {"metadata": meta(namespace=pick(namespace, "default")), "data": {"k": "1"}},
        ),
        "explicit-name": (core.ConfigMap, {"metadata": meta(name=pick("name-a", "name-b")), "data": {"k": "1"}}),
        "labels": (core.ConfigMap, {"metadata": meta(labels={"l": pick("1", "2")}), "data": {"k": "1"}}),
        "role-binding-ref": (
            rbac.RoleBinding,
            {"metadata": meta(), "role_ref": role_ref(pick("r1", "r2")), "subjects": subject("default")},
        ),
        "role-binding-subject": (
            rbac.RoleBinding,
            {"metadata": meta(), "role_ref": role_ref("r"), "subjects": subject(pick("s1", "s2"))},
        ),
        "storage-class-binding": (
            k8s.storage.v1.StorageClass,
            {"metadata": {}, **storage(pick("Immediate", "WaitForFirstConsumer"))},
        ),
        "priority-class-value": (k8s.scheduling.v1.PriorityClass, {"metadata": {}, "value": pick(10, 20)}),
        "unchanged": (core.ConfigMap, {"metadata": meta(), "data": {"k": "same"}}),
    }


EXPECTED = {
    "deployment-selector": "replace",
    "deployment-replicas": "update",
    "daemonset-selector": "replace",
    "statefulset-service": "replace",
    "statefulset-template": "update",
    "job-template": "replace",
    "claim-mode": "replace",
    "pod-container-name": "replace",
    "service-port": "update",
    "service-cluster-ip": "replace",
    "configmap-data": "update",
    "configmap-immutable": "replace",
    "secret-data": "update",
    "secret-type": "replace",
    "namespace-of-object": "replace",
    "explicit-name": "replace",
    "labels": "update",
    "role-binding-ref": "replace",
    "role-binding-subject": "update",
    "storage-class-binding": "replace",
    "priority-class-value": "replace",
    "unchanged": "same",
}


def _program(namespace: str, image: str, changed: bool) -> None:
    for name, (cls, arguments) in _cases(namespace, image, changed).items():
        cls(name, **arguments)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory, namespace: str, image: str) -> Iterator[dict[str, str]]:
    """Create all resources with the first definition, preview the second, apply it, and clean up."""
    folder: Path = tmp_path_factory.mktemp("replacement")
    engine = Engine(folder)
    engine.up(lambda: _program(namespace, image, False))
    planned = engine.preview(lambda: _program(namespace, image, True))
    engine.up(lambda: _program(namespace, image, True))
    again = engine.preview(lambda: _program(namespace, image, True))
    assert {op for name, op in again.items() if name in EXPECTED} == {"same"}, "the API server kept what was applied"
    yield planned
    engine.destroy()


def _kind(operation: str) -> str:
    """First step per resource, since replacements have several steps."""
    return "replace" if "replace" in operation else operation


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_change_is_planned_as_kubernetes_allows(operations: dict[str, str], name: str) -> None:
    assert _kind(operations[name]) == EXPECTED[name]
