"""Admission policies at the real API server: refused objects, allowed objects, and objects outside their scope."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.base import ADMISSION_LABEL
from components.observability.log_names import NODE_FOLDER
from components.security.admission_policy import DEFAULT_MEMORY, DELETION_ALLOWED, AdmissionPolicy
from tests.engine.conftest import Engine

pytestmark = pytest.mark.engine
GOOD, FORMER, OTHER = (
    f"registry.example.com/cogniforge/{n}@sha256:{c * 64}" for n, c in (("a", "1"), ("b", "2"), ("a", "3"))
)
_LIMIT_S = 30
Pod = dict[str, Any]


@pytest.fixture(scope="module")
def guarded(
    core: client.CoreV1Api, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str]:
    """A namespace in which the policies apply."""
    name = f"guarded-{int(time.time() * 1000)}"
    meta = client.V1ObjectMeta(name=name, labels={ADMISSION_LABEL: name})
    core.create_namespace(client.V1Namespace(metadata=meta))
    engine = Engine(tmp_path_factory.mktemp("admission"))
    args: Any = {
        "namespace": name,
        "images": [GOOD, FORMER],
        "upstream": ["kserve"],
        "log_reader": f"{name}-reader/reader",
        "guard_data": True,
    }
    engine.up(lambda: AdmissionPolicy("admission", args) and None)
    deadline = time.monotonic() + _LIMIT_S
    while not _refusal(core, name, _pod(OTHER)):  # the API server loads policies once a second
        assert time.monotonic() < deadline, "the policies never come into force"
        time.sleep(0.2)
    yield name
    engine.destroy()  # first, since the policy protects the namespace
    core.delete_namespace(name, propagation_policy="Background")


def _pod(image: str = GOOD) -> Pod:
    container = {
        "name": "c",
        "image": image,
        "resources": {"limits": {"memory": "16Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {"containers": [container], "automountServiceAccountToken": False, "nodeName": "nowhere"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-"}, "spec": spec}


def _refusal(core: client.CoreV1Api, namespace: str, pod: Pod) -> str:
    """The API server's refusal of a pod (dry run); empty if it accepts the pod."""
    try:
        core.create_namespaced_pod(namespace, pod, dry_run="All")
    except ApiException as error:
        assert error.status in (403, 422), error.body
        return str(error.body)
    return ""


def _changed(change: Callable[[Pod], Any]) -> Pod:
    pod = copy.deepcopy(_pod())
    change(pod)
    return pod


_BAD: dict[str, tuple[Pod, str]] = {
    "another digest": (_pod(OTHER), "the image is not part of this release"),
    "a tag": (_pod(GOOD.partition("@")[0] + ":latest"), "the image is not part of this release"),
    "another registry": (_pod(GOOD.replace("registry.", "mirror.")), "the image is not part of this release"),
    "an init container": (
        _changed(
            lambda p: p["spec"].update(initContainers=[{**p["spec"]["containers"][0], "name": "i", "image": OTHER}])
        ),
        "the image is not part of this release",
    ),
    "a path of the node": (
        _changed(lambda p: p["spec"].update(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
        "hostPath",
    ),
    "the node's network": (_changed(lambda p: p["spec"].update(hostNetwork=True)), "share its node's network"),
    "the node's processes": (_changed(lambda p: p["spec"].update(hostPID=True)), "share its node's network"),
    "capabilities": (
        _changed(lambda p: p["spec"]["containers"][0]["securityContext"].pop("capabilities")),
        "drop all capabilities",
    ),
    "privileges": (
        _changed(lambda p: p["spec"]["containers"][0]["securityContext"].update(allowPrivilegeEscalation=True)),
        "allowPrivilegeEscalation",
    ),
}


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_pod_is_refused_with_its_reason(guarded: str, core: client.CoreV1Api, case: str) -> None:
    pod, reason = _BAD[case]
    assert reason in _refusal(core, guarded, pod)


@pytest.mark.parametrize("image", [GOOD, FORMER, "kserve/storage-initializer:v0.20.0"])
def test_pods_of_the_release_are_taken(guarded: str, core: client.CoreV1Api, image: str) -> None:
    assert _refusal(core, guarded, _pod(image)) == ""


@pytest.fixture(scope="module")
def readers(guarded: str, core: client.CoreV1Api) -> Iterator[str]:
    """The namespace of the pods that may read the node's logs."""
    name = f"{guarded}-reader"
    core.create_namespace(
        client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels={ADMISSION_LABEL: guarded}))
    )
    for account in ("reader", "other"):
        core.create_namespaced_service_account(name, {"metadata": {"name": account}})
    yield name
    core.patch_namespace(name, {"metadata": {"annotations": {DELETION_ALLOWED: "true"}}})
    core.delete_namespace(name, propagation_policy="Background")


def _reader(account: str = "reader", path: str = NODE_FOLDER, **mount: Any) -> Pod:
    def change(pod: Pod) -> None:
        spec = pod["spec"]
        spec["serviceAccountName"] = account
        spec["volumes"] = [{"name": "pods", "hostPath": {"path": path}}]
        (container,) = spec["containers"]
        container["volumeMounts"] = [{"name": "pods", "mountPath": "/pods", "readOnly": True, **mount}]
        container["resources"] = {"limits": {"memory": "16Mi"}}
        container["securityContext"] |= {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}

    return _changed(change)


def test_one_account_reads_the_logs_of_a_node_and_nothing_else(
    guarded: str, readers: str, core: client.CoreV1Api
) -> None:
    assert _refusal(core, readers, _reader()) == ""
    assert "hostPath" in _refusal(core, readers, _reader("other"))
    assert "hostPath" in _refusal(core, guarded, _reader("default"))
    for path in ("/", "/var/log", f"{NODE_FOLDER}/..", "/var/lib/kubelet"):
        assert "hostPath" in _refusal(core, readers, _reader(path=path)), path
    assert "readOnly" in _refusal(core, readers, _reader(readOnly=False))


@pytest.mark.parametrize(
    "change",
    [
        {"securityContext": {"runAsNonRoot": False}},
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}}},
        {"ports": [{"containerPort": 80, "hostPort": 80}]},
    ],
)
def test_pods_beside_the_reader_are_as_restricted_as_elsewhere(
    readers: str, core: client.CoreV1Api, change: dict[str, Any]
) -> None:
    pod = _reader()
    (container,) = pod["spec"]["containers"]
    container["securityContext"] |= change.get("securityContext", {})
    container |= {name: value for name, value in change.items() if name != "securityContext"}
    assert "RuntimeDefault" in _refusal(core, readers, pod)


def test_a_container_without_a_limit_gets_one(guarded: str, core: client.CoreV1Api) -> None:
    pod = _changed(lambda p: p["spec"]["containers"][0].pop("resources"))
    made = core.create_namespaced_pod(guarded, pod, dry_run="All")
    assert made.spec.containers[0].resources.limits == {"memory": DEFAULT_MEMORY}


def test_without_the_default_a_container_needs_a_limit(guarded: str, core: client.CoreV1Api) -> None:
    other = f"{guarded}-other"
    meta = client.V1ObjectMeta(name=other, labels={ADMISSION_LABEL: guarded})
    core.create_namespace(client.V1Namespace(metadata=meta))
    pod = _changed(lambda p: p["spec"]["containers"][0].pop("resources"))
    assert "limits.memory" in _refusal(core, other, pod)
    core.patch_namespace(other, {"metadata": {"annotations": {DELETION_ALLOWED: "true"}}})
    core.delete_namespace(other, propagation_policy="Background")


def test_other_namespaces_are_left_alone(guarded: str, core: client.CoreV1Api, namespace: str) -> None:
    for pod, _ in _BAD.values():
        assert _refusal(core, namespace, pod) == ""


def test_a_running_pod_takes_no_other_image(guarded: str, core: client.CoreV1Api) -> None:
    name = core.create_namespaced_pod(guarded, _pod()).metadata.name
    swap = {"spec": {"containers": [{"name": "c", "image": OTHER}]}}
    with pytest.raises(ApiException, match="the image is not part of this release"):
        core.patch_namespaced_pod(name, guarded, swap)
    debug = {"spec": {"ephemeralContainers": [{"name": "d", "image": OTHER}]}}
    with pytest.raises(ApiException, match="the image is not part of this release"):
        core.patch_namespaced_pod_ephemeralcontainers(name, guarded, debug)
    core.patch_namespaced_pod(name, guarded, {"metadata": {"labels": {"still": "changeable"}}})
    core.delete_namespaced_pod(name, guarded, grace_period_seconds=0)


def test_data_is_not_deleted_in_passing(guarded: str, core: client.CoreV1Api, api: client.ApiClient) -> None:
    apps = client.AppsV1Api(api)
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    core.create_namespaced_persistent_volume_claim(guarded, {"metadata": {"name": "data"}, "spec": claim})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": _pod()["spec"]}
    spec = {"replicas": 0, "serviceName": "s", "selector": {"matchLabels": {"a": "b"}}, "template": template}
    held = {**spec, "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": claim}]}
    for name, one in (("held", held), ("empty", spec)):
        apps.create_namespaced_stateful_set(guarded, {"metadata": {"name": name}, "spec": one})
    deletions: dict[str, Callable[[], Any]] = {
        "claim": lambda: core.delete_namespaced_persistent_volume_claim("data", guarded),
        "stateful set": lambda: apps.delete_namespaced_stateful_set("held", guarded),
        "namespace": lambda: core.delete_namespace(guarded, dry_run="All"),
    }
    for delete in deletions.values():
        with pytest.raises(ApiException, match="contains data"):
            delete()
    apps.delete_namespaced_stateful_set("empty", guarded)
    allowed = {"metadata": {"annotations": {DELETION_ALLOWED: "true"}}}
    core.patch_namespaced_persistent_volume_claim("data", guarded, allowed)
    apps.patch_namespaced_stateful_set("held", guarded, allowed)
    deletions["claim"]()
    deletions["stateful set"]()
