"""Waiting for readiness: its conditions, and the user's message after a timeout."""

from __future__ import annotations

from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from local.images.pipeline import read_index
from tests.engine.conftest import Engine, export

pytestmark = pytest.mark.engine


def _deployment(
    name: str, namespace: str, image: str, *, seconds: int = 20, **container: Any
) -> k8s.apps.v1.Deployment:
    meta = {"namespace": namespace, "name": name, "annotations": {"pulumi.com/timeoutSeconds": str(seconds)}}
    pod = {
        "termination_grace_period_seconds": 1,
        "containers": [{"name": "main", "image": image, **container}],
    }
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    spec = {"replicas": 1, "selector": {"match_labels": {"app": name}}, "template": template}
    return k8s.apps.v1.Deployment(name, metadata=meta, spec=spec)


def test_a_deployment_is_available_when_up_returns(
    engine: Engine, namespace: str, image: str, unique: str, api: client.ApiClient
) -> None:
    engine.up(lambda: _deployment(unique, namespace, image) and None)
    assert client.AppsV1Api(api).read_namespaced_deployment(unique, namespace).status.available_replicas == 1


def test_a_missing_image_is_reported_with_its_reason(engine: Engine, namespace: str, unique: str) -> None:
    broken = "127.0.0.1:5780/cogniforge/no-such-image:1"
    message = engine.failing_up(lambda: _deployment(unique, namespace, broken, seconds=8) and None)
    assert "ImagePull" in message
    assert "no-such-image" in message


def test_a_crash_is_reported_with_the_exit_code(engine: Engine, namespace: str, unique: str) -> None:
    router = read_index()["router"].reference  # without a route table, it exits with an error
    # Without a probe, the pod would count as ready until the process has loaded and failed.
    ready = {"http_get": {"path": "/readyz", "port": 8080}}
    message = engine.failing_up(
        lambda: _deployment(unique, namespace, router, seconds=30, readiness_probe=ready) and None
    )
    assert "exited with code 1" in message
    assert "route table" in message, "the last log lines are shown"


def test_a_failed_update_can_be_resumed(engine: Engine, namespace: str, image: str, unique: str) -> None:
    broken = "127.0.0.1:5780/cogniforge/no-such-image:1"
    engine.failing_up(lambda: _deployment(unique, namespace, broken, seconds=5) and None)
    engine.up(lambda: _deployment(unique, namespace, image) and None)
    assert engine.preview(lambda: _deployment(unique, namespace, image) and None)[unique] == "same"


def test_an_unschedulable_pod_is_reported_with_the_reason(
    engine: Engine, namespace: str, image: str, unique: str
) -> None:
    resources = {"requests": {"cpu": "9000"}}
    message = engine.failing_up(lambda: _deployment(unique, namespace, image, seconds=5, resources=resources) and None)
    assert "Insufficient cpu" in message


def test_skip_await_does_not_wait(engine: Engine, namespace: str, unique: str) -> None:
    def program() -> None:
        annotations = {"pulumi.com/skipAwait": "true", "pulumi.com/timeoutSeconds": "5"}
        meta = {"namespace": namespace, "annotations": annotations}
        pod = {"containers": [{"name": "main", "image": "none.example.com/none:1"}]}
        template = {"metadata": {"labels": {"app": unique}}, "spec": pod}
        spec = {"selector": {"match_labels": {"app": unique}}, "template": template}
        k8s.apps.v1.Deployment(unique, metadata=meta, spec=spec)

    engine.up(program)  # waiting would fail, since this image does not exist


def test_a_stateful_set_with_a_volume_becomes_ready(
    engine: Engine, namespace: str, image: str, unique: str, core: client.CoreV1Api
) -> None:
    def program() -> None:
        claim = {
            "access_modes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
            "storage_class_name": "local-path",  # another test's EksCluster may have made its own the default
        }
        pod = {
            "termination_grace_period_seconds": 1,
            "containers": [
                {"name": "main", "image": image, "volume_mounts": [{"name": "data", "mount_path": "/data"}]}
            ],
        }
        spec = {
            "replicas": 1,
            "service_name": unique,
            "selector": {"match_labels": {"app": unique}},
            "template": {"metadata": {"labels": {"app": unique}}, "spec": pod},
            "volume_claim_templates": [{"metadata": {"name": "data"}, "spec": claim}],
        }
        k8s.apps.v1.StatefulSet(unique, metadata={"namespace": namespace, "name": unique}, spec=spec)

    engine.up(program)
    claim = core.read_namespaced_persistent_volume_claim(f"data-{unique}-0", namespace)
    assert claim.status.phase == "Bound"


def test_a_daemon_set_becomes_ready(
    engine: Engine, namespace: str, image: str, unique: str, api: client.ApiClient
) -> None:
    def program() -> None:
        pod = {"termination_grace_period_seconds": 1, "containers": [{"name": "main", "image": image}]}
        template = {"metadata": {"labels": {"app": unique}}, "spec": pod}
        spec = {"selector": {"match_labels": {"app": unique}}, "template": template}
        k8s.apps.v1.DaemonSet(unique, metadata={"namespace": namespace, "name": unique}, spec=spec)

    engine.up(program)
    assert client.AppsV1Api(api).read_namespaced_daemon_set(unique, namespace).status.number_available == 1


def _job(name: str, namespace: str, script: str) -> None:
    container = {"name": "main", "image": read_index()["router"].reference, "command": ["python3", "-c", script]}
    template = {"spec": {"restart_policy": "Never", "containers": [container]}}
    k8s.batch.v1.Job(
        name, metadata={"namespace": namespace, "name": name}, spec={"backoff_limit": 0, "template": template}
    )


def test_a_job_is_done_when_up_returns(engine: Engine, namespace: str, unique: str, api: client.ApiClient) -> None:
    engine.up(lambda: _job(unique, namespace, "print('done')"))
    assert client.BatchV1Api(api).read_namespaced_job(unique, namespace).status.succeeded == 1


def test_a_failed_job_shows_its_output(engine: Engine, namespace: str, unique: str) -> None:
    message = engine.failing_up(lambda: _job(unique, namespace, "raise SystemExit('out of luck')"))
    assert "out of luck" in message
    assert "BackoffLimitExceeded" in message


def test_a_pod_is_ready_when_up_returns(
    engine: Engine, namespace: str, image: str, unique: str, core: client.CoreV1Api
) -> None:
    def program() -> None:
        spec = {"termination_grace_period_seconds": 1, "containers": [{"name": "main", "image": image}]}
        k8s.core.v1.Pod(unique, metadata={"namespace": namespace, "name": unique}, spec=spec)

    engine.up(program)
    conditions = core.read_namespaced_pod(unique, namespace).status.conditions
    assert {c.type: c.status for c in conditions}["Ready"] == "True"


def test_a_load_balancer_has_an_address_when_up_returns(engine: Engine, namespace: str, unique: str) -> None:
    def program() -> None:
        spec = {"type": "LoadBalancer", "selector": {"app": unique}, "ports": [{"port": 18099}]}
        service = k8s.core.v1.Service(unique, metadata={"namespace": namespace}, spec=spec)
        export(host=service.status["load_balancer"]["ingress"][0]["hostname"])

    assert engine.up(program).outputs["host"].value == "localhost"


def _crd(group: str) -> k8s.apiextensions.v1.CustomResourceDefinition:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "x_kubernetes_preserve_unknown_fields": True}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"open_apiv3_schema": schema}}
    names = {"kind": "Widget", "plural": "widgets"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    return k8s.apiextensions.v1.CustomResourceDefinition("crd", metadata={"name": f"widgets.{group}"}, spec=spec)


def test_a_custom_resource_follows_its_definition_in_one_update(
    engine: Engine, namespace: str, unique: str, api: client.ApiClient
) -> None:
    group = f"{unique}.example.com"

    def program() -> None:
        definition = _crd(group)
        k8s.apiextensions.CustomResource(
            "widget",
            api_version=f"{group}/v1",
            kind="Widget",
            metadata={"namespace": namespace, "name": "w"},
            spec={"size": 3},
            opts=pulumi.ResourceOptions(depends_on=[definition]),
        )

    engine.up(program)
    widget = client.CustomObjectsApi(api).get_namespaced_custom_object(group, "v1", namespace, "widgets", "w")
    assert widget["spec"] == {"size": 3}


def test_wait_for_a_field(engine: Engine, namespace: str, unique: str) -> None:
    def program() -> None:
        annotations = {"pulumi.com/waitFor": "jsonpath={.data.ready}=yes", "pulumi.com/timeoutSeconds": "3"}
        meta = {"namespace": namespace, "annotations": annotations}
        k8s.core.v1.ConfigMap(unique, metadata=meta, data={"ready": "yes"})

    engine.up(program)


def test_wait_for_a_field_that_does_not_come_times_out(engine: Engine, namespace: str, unique: str) -> None:
    def program() -> None:
        annotations = {"pulumi.com/waitFor": "jsonpath={.data.ready}=yes", "pulumi.com/timeoutSeconds": "2"}
        meta = {"namespace": namespace, "annotations": annotations}
        k8s.core.v1.ConfigMap(unique, metadata=meta, data={"ready": "no"})

    assert "not ready after 2 s" in engine.failing_up(program)


def test_refresh_sees_drift_and_up_repairs_it(
    engine: Engine, namespace: str, unique: str, core: client.CoreV1Api
) -> None:
    def program() -> None:
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace, "name": unique}, data={"k": "ours"})

    engine.up(program)
    core.patch_namespaced_config_map(unique, namespace, {"data": {"k": "theirs"}})
    assert engine.refresh(program)["update"] == 1
    engine.up(program)
    assert core.read_namespaced_config_map(unique, namespace).data == {"k": "ours"}


def test_refresh_without_drift_changes_nothing(engine: Engine, namespace: str, image: str, unique: str) -> None:
    def program() -> None:
        _deployment(
            unique,
            namespace,
            image,
            resources={"requests": {"cpu": "10m", "memory": "1024Ki"}, "limits": {"cpu": "1000m"}},
        )
        k8s.core.v1.Service("s", metadata={"namespace": namespace}, spec={"ports": [{"port": 80}]})
        k8s.core.v1.Secret("secret", metadata={"namespace": namespace}, string_data={"k": "v"})

    engine.up(program)
    engine.refresh(program)  # fields that the server writes, such as the status, may differ; the definition must not
    assert set(engine.preview(program).values()) == {"same"}


def test_refresh_removes_missing_resources_from_the_state(
    engine: Engine, namespace: str, unique: str, core: client.CoreV1Api
) -> None:
    def program() -> None:
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace, "name": unique}, data={})

    engine.up(program)
    core.delete_namespaced_config_map(unique, namespace)
    assert engine.refresh(program)["delete"] == 1


def test_import_takes_an_object_over_without_a_change(
    engine: Engine, namespace: str, unique: str, core: client.CoreV1Api
) -> None:
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=unique), data={"k": "v"})
    uid = core.create_namespaced_config_map(namespace, body).metadata.uid

    def program() -> None:
        opts = pulumi.ResourceOptions(import_=f"{namespace}/{unique}")
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace, "name": unique}, data={"k": "v"}, opts=opts)

    engine.up(program)
    assert core.read_namespaced_config_map(unique, namespace).metadata.uid == uid


def test_orphaned_dependents_survive(
    engine: Engine, namespace: str, image: str, unique: str, api: client.ApiClient
) -> None:
    def program() -> None:
        meta = {"namespace": namespace, "name": unique}
        meta |= {"annotations": {"pulumi.com/deletionPropagationPolicy": "orphan"}}
        pod = {"termination_grace_period_seconds": 1, "containers": [{"name": "main", "image": image}]}
        template = {"metadata": {"labels": {"app": unique}}, "spec": pod}
        spec = {"selector": {"match_labels": {"app": unique}}, "template": template}
        k8s.apps.v1.Deployment(unique, metadata=meta, spec=spec)

    def another() -> None:  # a program without resources may end before the engine has registered it
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace}, data={})

    engine.up(program)
    engine.up(another)
    apps = client.AppsV1Api(api)
    with pytest.raises(ApiException):
        apps.read_namespaced_deployment(unique, namespace)
    left = apps.list_namespaced_replica_set(namespace, label_selector=f"app={unique}").items
    assert len(left) == 1
    apps.delete_namespaced_replica_set(left[0].metadata.name, namespace)
