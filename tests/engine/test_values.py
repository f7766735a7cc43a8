"""Values that pass through the engine: secrets, unknowns, numbers, names; and errors before any resource exists."""

from __future__ import annotations

import json

import pulumi
import pulumi_kubernetes as k8s
import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.engine.conftest import Engine, export

pytestmark = pytest.mark.engine


def test_secret_data_is_encrypted_in_the_state(engine: Engine, namespace: str) -> None:
    def program() -> None:
        k8s.core.v1.Secret("s", metadata={"namespace": namespace}, string_data={"password": "swordfish"})

    engine.up(program)
    assert "swordfish" not in json.dumps(engine.state("s"))


def test_a_secret_anywhere_in_an_object_stays_secret(engine: Engine, namespace: str) -> None:
    def program() -> None:
        data = {"open": "plain", "hidden": pulumi.Output.secret("swordfish")}
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace}, data=data)

    engine.up(program)
    state = json.dumps(engine.state("c"))
    assert "swordfish" not in state
    assert "plain" in state


def test_a_secret_reaches_the_cluster_in_clear(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        config = k8s.core.v1.ConfigMap(
            "c", metadata={"namespace": namespace}, data={"k": pulumi.Output.secret("swordfish")}
        )
        export(name=config.metadata["name"])

    name = engine.up(program).outputs["name"].value
    assert core.read_namespaced_config_map(name, namespace).data == {"k": "swordfish"}


def test_whole_numbers_arrive_as_integers(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        service = k8s.core.v1.Service("s", metadata={"namespace": namespace}, spec={"ports": [{"port": 8080}]})
        export(name=service.metadata["name"], port=service.spec["ports"][0]["port"])

    outputs = engine.up(program).outputs
    assert outputs["port"].value == 8080
    assert core.read_namespaced_service(outputs["name"].value, namespace).spec.ports[0].port == 8080


def test_number_like_strings_stay_strings(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        data = {"number": "42", "bool": "true", "null": "null", "float": "1.0"}
        config = k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace}, data=data)
        export(name=config.metadata["name"])

    name = engine.up(program).outputs["name"].value
    expected = {"number": "42", "bool": "true", "null": "null", "float": "1.0"}
    assert core.read_namespaced_config_map(name, namespace).data == expected


def test_unknown_values_are_previewed(engine: Engine, namespace: str) -> None:
    def program() -> None:
        first = k8s.core.v1.ConfigMap("first", metadata={"namespace": namespace}, data={})
        k8s.core.v1.ConfigMap(
            "second", metadata={"namespace": namespace}, data={"uid": first.metadata["uid"].apply(str)}
        )

    operations = engine.preview(program)
    assert operations["first"] == operations["second"] == "create"


def test_an_unknown_is_resolved_in_the_update(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        first = k8s.core.v1.ConfigMap("first", metadata={"namespace": namespace}, data={})
        second = k8s.core.v1.ConfigMap(
            "second", metadata={"namespace": namespace}, data={"uid": first.metadata["uid"].apply(str)}
        )
        export(uid=first.metadata["uid"], name=second.metadata["name"])

    outputs = engine.up(program).outputs
    assert core.read_namespaced_config_map(outputs["name"].value, namespace).data["uid"] == outputs["uid"].value


def test_an_automatic_name_stays_the_same(engine: Engine, namespace: str) -> None:
    def program(value: str) -> None:
        config = k8s.core.v1.ConfigMap("auto", metadata={"namespace": namespace}, data={"k": value})
        export(name=config.metadata["name"])

    first = engine.up(lambda: program("1")).outputs["name"].value
    second = engine.up(lambda: program("2")).outputs["name"].value
    assert first.startswith("auto-")
    assert first == second


def test_an_unknown_field_is_refused_with_a_suggestion(engine: Engine, namespace: str) -> None:
    def program() -> None:
        k8s.core.v1.Service("s", metadata={"namespace": namespace}, spec={"portz": []})

    message = engine.failing_up(program)
    assert "spec.portz" in message
    assert 'did you mean "ports"' in message


def test_a_wrong_type_is_refused_with_its_path(engine: Engine, namespace: str) -> None:
    def program() -> None:
        k8s.core.v1.Service("s", metadata={"namespace": namespace}, spec={"ports": [{"port": "eighty"}]})

    message = engine.failing_up(program)
    assert "spec.ports[0].port" in message
    assert "whole number" in message


def test_checks_of_the_server_run_in_the_preview(engine: Engine, namespace: str) -> None:
    def program() -> None:
        k8s.core.v1.Service("s", metadata={"namespace": namespace}, spec={"ports": [{"port": 99999}]})

    with pytest.raises(pulumi.automation.errors.CommandError, match=r"spec.ports\[0\].port"):
        engine.preview(program)


def test_a_foreign_object_is_not_taken_over(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="theirs")))

    def program() -> None:
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace, "name": "theirs"}, data={"k": "ours"})

    assert "exists already" in engine.failing_up(program)
    assert core.read_namespaced_config_map("theirs", namespace).data is None


def test_an_object_is_adopted_on_request(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="adopted")))

    def program() -> None:
        meta = {"namespace": namespace, "name": "adopted", "annotations": {"pulumi.com/patchForce": "true"}}
        k8s.core.v1.ConfigMap("c", metadata=meta, data={"k": "ours"})

    engine.up(program)
    assert core.read_namespaced_config_map("adopted", namespace).data == {"k": "ours"}


def test_an_unreachable_cluster_can_be_previewed(engine: Engine, namespace: str) -> None:
    kubeconfig = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:9"}}],
            "users": [{"name": "x", "user": {"token": "none"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
    )

    def program() -> None:
        provider = k8s.Provider("nowhere", kubeconfig=kubeconfig)
        opts = pulumi.ResourceOptions(provider=provider)
        k8s.core.v1.ConfigMap("c", metadata={"namespace": "default"}, data={"k": "v"}, opts=opts)

    assert engine.preview(program)["c"] == "create"


def test_charts_declare_their_requirements(engine: Engine) -> None:
    def program() -> None:
        k8s.helm.v3.Release("chart", chart="nothing", namespace="default")

    assert "real kubernetes provider plugin" in engine.failing_up(program)


def test_a_chart_release_can_be_previewed(engine: Engine) -> None:
    assert engine.preview(lambda: k8s.helm.v3.Release("chart", chart="nothing") and None)["chart"] == "create"


def test_deleting_waits_until_the_object_is_gone(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        config = k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace}, data={})
        export(name=config.metadata["name"])

    def another() -> None:  # a program without resources may end before the engine has registered it
        k8s.core.v1.ConfigMap("d", metadata={"namespace": namespace}, data={})

    name = engine.up(program).outputs["name"].value
    engine.up(another)
    with pytest.raises(ApiException) as error:
        core.read_namespaced_config_map(name, namespace)
    assert error.value.status == 404
