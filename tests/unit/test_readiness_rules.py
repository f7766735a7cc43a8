"""When an object counts as ready, from its definition and status alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.providers.kubernetes import readiness, wait_for


class _NoPods:
    """A cluster in which nothing else exists."""

    def list(self, *_: Any, **__: Any) -> list[Any]:
        return []


def _object(kind: str, spec: dict[str, Any], status: dict[str, Any], api: str = "apps/v1") -> dict[str, Any]:
    meta = {"name": "x", "namespace": "n", "generation": 2}
    return {"apiVersion": api, "kind": kind, "metadata": meta, "spec": spec, "status": status}


def _ready(obj: dict[str, Any]) -> bool:
    return readiness.look(_NoPods(), obj).ready  # pyright: ignore[reportArgumentType]


def _stateful(strategy: dict[str, Any], updated: int, ready: int = 3, generation: int = 2) -> dict[str, Any]:
    spec = {"replicas": 3, "updateStrategy": strategy}
    status = {"readyReplicas": ready, "updatedReplicas": updated, "observedGeneration": generation}
    return _object("StatefulSet", spec, {**status, "currentRevision": "a", "updateRevision": "b"})


def _rolling(partition: int) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}


@pytest.mark.parametrize(
    ("strategy", "updated", "ready"),
    [
        (_rolling(3), 0, True),
        (_rolling(5), 0, True),
        (_rolling(2), 0, False),
        (_rolling(2), 1, True),
        (_rolling(0), 2, False),
        (_rolling(0), 3, True),
        ({"type": "OnDelete"}, 0, True),
    ],
)
def test_a_stateful_set_is_ready_when_its_partition_is_rolled_out(
    strategy: dict[str, Any], updated: int, ready: bool
) -> None:
    assert _ready(_stateful(strategy, updated)) is ready


def test_a_partition_does_not_excuse_a_replica_that_is_not_ready() -> None:
    assert not _ready(_stateful(_rolling(3), 0, ready=2))
    assert not _ready(_stateful(_rolling(3), 0, generation=1)), "the status is of the definition before"


@pytest.mark.parametrize(("strategy", "ready"), [("OnDelete", True), ("RollingUpdate", False)])
def test_a_daemon_set_that_is_updated_by_hand_is_ready_with_old_pods(strategy: str, ready: bool) -> None:
    status = {"desiredNumberScheduled": 2, "numberAvailable": 2, "updatedNumberScheduled": 0, "observedGeneration": 2}
    assert _ready(_object("DaemonSet", {"updateStrategy": {"type": strategy}}, status)) is ready


@pytest.mark.parametrize("strategy", ["OnDelete", "RollingUpdate"])
def test_a_daemon_set_waits_for_its_pods_whatever_the_strategy(strategy: str) -> None:
    status = {"desiredNumberScheduled": 2, "numberAvailable": 1, "updatedNumberScheduled": 2, "observedGeneration": 2}
    assert not _ready(_object("DaemonSet", {"updateStrategy": {"type": strategy}}, status))


def test_a_paused_deployment_is_as_ready_as_it_will_be() -> None:
    spec = {"replicas": 2, "paused": True}
    assert _ready(_object("Deployment", spec, {"observedGeneration": 2, "updatedReplicas": 0}))
    assert not _ready(_object("Deployment", spec, {"observedGeneration": 1}))


def test_a_deployment_fails_when_its_deadline_has_passed() -> None:
    conditions = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    status = {"observedGeneration": 2, "conditions": conditions}
    state = readiness.look(_NoPods(), _object("Deployment", {"replicas": 1, "progressDeadlineSeconds": 9}, status))  # pyright: ignore[reportArgumentType]
    assert state.failed == "made no progress for 9 s"


@pytest.mark.parametrize(
    ("kind", "api", "spec", "status", "ready"),
    [
        ("PersistentVolume", "v1", {}, {"phase": "Available"}, True),
        ("PersistentVolume", "v1", {}, {"phase": "Pending"}, False),
        ("ResourceQuota", "v1", {"hard": {"pods": "4"}}, {}, False),
        ("ResourceQuota", "v1", {"hard": {"pods": "4"}}, {"hard": {"pods": "4"}}, True),
        ("ReplicationController", "v1", {"replicas": 2}, {"observedGeneration": 2, "availableReplicas": 1}, False),
        ("ReplicationController", "v1", {"replicas": 2}, {"observedGeneration": 2, "availableReplicas": 2}, True),
        ("ReplicaSet", "apps/v1", {"replicas": 0}, {"observedGeneration": 2}, True),
        ("Ingress", "networking.k8s.io/v1", {}, {"loadBalancer": {}}, False),
        ("Ingress", "networking.k8s.io/v1", {}, {"loadBalancer": {"ingress": [{"hostname": "h"}]}}, True),
        ("Job", "batch/v1", {"suspend": True}, {}, True),
        ("Job", "batch/v1", {}, {"conditions": [{"type": "Complete", "status": "True"}]}, True),
        ("Pod", "v1", {}, {"phase": "Succeeded"}, True),
        ("Lease", "coordination.k8s.io/v1", {}, {}, True),
    ],
)
def test_each_kind_has_its_own_rule(
    kind: str, api: str, spec: dict[str, Any], status: dict[str, Any], ready: bool
) -> None:
    assert _ready(_object(kind, spec, status, api)) is ready


def _with_rule(rule: str) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": "False"},
        {"type": "Up", "status": "True"},
        {"type": "Old", "status": "True", "observedGeneration": 1},
    ]
    status = {"ready": True, "count": 3, "share": 0.5, "none": None, "text": "true", "conditions": conditions}
    obj = _object("Widget", {}, status, "example.com/v1")
    obj["metadata"]["annotations"] = {wait_for.ANNOTATION: rule, "example.com/a": "b"}
    return obj


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("jsonpath={.status.ready}=true", True),
        ("jsonpath={.status.ready}=True", False),
        ("jsonpath={.status.text}=true", True),
        ("jsonpath={.status.count}=3", True),
        ("jsonpath={.status.share}=0.5", True),
        ("jsonpath={.status.none}=null", True),
        ("jsonpath={.status.absent}", False),
        ("jsonpath={.status.conditions}", True),
        ("jsonpath={.status.conditions}=x", False),
        ('jsonpath={.status.conditions[?(@.type=="Up")].status}=True', True),
        ("jsonpath={.metadata.annotations['example.com/a']}=b", True),
        ("condition=Up", True),
        ("condition=up=true", True),
        ("condition=Ready", False),
        ("condition=Ready=False", True),
        ("condition=Old", False),
        ("condition=Absent=False", False),
        ('["condition=Up", "jsonpath={.status.count}=3"]', True),
        ('["condition=Up", "condition=Ready"]', False),
        ('["condition=Ready", "condition=Up"]', False),
    ],
)
def test_all_wait_conditions_of_an_author_must_hold(rule: str, holds: bool) -> None:
    assert _ready(_with_rule(rule)) is holds


@pytest.mark.parametrize(
    "rule",
    ["Ready", "[]", "[1]", "[", "condition=", "jsonpath=.a", "jsonpath={.a}=", "jsonpath={.a[}", "jsonpath={.a}={.b}"],
)
def test_a_rule_that_cannot_be_read_fails_at_once(rule: str) -> None:
    state = readiness.look(_NoPods(), _with_rule(rule))  # pyright: ignore[reportArgumentType]
    assert state.failed.startswith("pulumi.com/waitFor: ")


@given(st.text())
def test_any_text_is_a_rule_or_is_refused(text: str) -> None:
    for candidate in (text, f"jsonpath={{{text}}}", f"jsonpath={{.a}}{text}", f"condition={text}"):
        try:
            assert wait_for.parse(candidate)
        except wait_for.RuleError as error:
            assert str(error)
