"""Containers read secrets from files that only their group can read, never from environment variables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from components import secret_files
from local import paths
from policies.access.render import read
from policies.crossguard import iam_rules
from policies.crossguard.kubernetes_rules import containers, pod, template
from policies.crossguard.rule import Resource
from tests.unit.test_custom_services import EVERYTHING, READER, with_services
from tests.unit.test_platform import ENVIRONMENTS, registered, registered_of

pytestmark = pytest.mark.xdist_group("tree")
(RULE,) = (rule for rule in iam_rules.RULES if rule.name == "no-secrets-in-environment")
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ServingRuntime")
SECRET = "4dabf18193072939515e22adb298388d"
"""Key of an object that holds a value of Pulumi's; a secret among them."""


def _workloads(resources: Any) -> Iterator[Resource]:
    for r in resources:
        if r.typ.startswith("kubernetes:") and r.typ.rpartition(":")[2] in KINDS:
            yield Resource(r.typ, r.name, f"urn:pulumi:local::p::{r.typ}::{r.name}", r.inputs)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_container_has_a_secret_in_its_environment(environment: str) -> None:
    workloads = list(_workloads(registered(environment)))
    assert len(workloads) > 15
    assert [(w.name, said) for w in workloads for said in RULE.violations(w)] == []
    notes = [(template(w).get("metadata") or {}).get("annotations") or {} for w in workloads]
    assert not any(secret_files.IN_ENVIRONMENT_NOTE in one for one in notes), "a bundled part uses the way out"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_no_variable_has_a_secret_value(environment: str) -> None:
    found = [
        (w.name, variable["name"])
        for w in _workloads(registered(environment))
        for container in containers(w)
        for variable in container.get("env") or []
        if isinstance(value := variable.get("value"), dict) and SECRET in value
    ]
    assert found == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_files_of_secrets_are_for_the_pods_group_and_mounted_read_only(environment: str) -> None:
    seen = 0
    groups = {
        r.inputs["spec"]["predictor"]["model"]["runtime"]: r.inputs["spec"]["predictor"].get("securityContext", {})
        for r in registered(environment)
        if r.typ.endswith(":InferenceService")
    }
    for workload in _workloads(registered(environment)):
        spec = pod(workload)
        context = spec.get("securityContext") or groups.get(workload.properties["metadata"].get("name"), {})
        for volume in spec.get("volumes") or []:
            projected = volume.get("projected") or {}
            source = volume.get("secret") or (
                projected if any("secret" in s for s in projected.get("sources", [])) else {}
            )
            if not source:
                continue
            seen += 1
            group = 0 if workload.name.endswith("-log-collector") else 65532  # the kubelet's logs are root's
            assert (source.get("defaultMode"), context.get("fsGroup")) == (secret_files.MODE, group), workload.name
            for container in containers(workload):
                mounts = [m for m in container.get("volumeMounts") or [] if m["name"] == volume["name"]]
                assert all(mount["readOnly"] for mount in mounts), (workload.name, container["name"])
    assert seen > 10


def _with(
    *, env: list[Any] | None = None, more: dict[str, Any] | None = None, notes: dict[str, str] | None = None
) -> Resource:
    container = {"name": "app", "env": env or [], **(more or {})}
    inside = {"metadata": {"annotations": notes or {}}, "spec": {"initContainers": [container], "containers": []}}
    return Resource(
        "kubernetes:apps/v1:Deployment", "app", "urn:pulumi:local::p::t::app", {"spec": {"template": inside}}
    )


FROM_SECRET = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}


def test_the_rule_names_each_variable_from_a_secret() -> None:
    assert RULE.violations(_with(env=[FROM_SECRET])) == ["app: TOKEN is an environment variable from a Secret"]
    whole = {"envFrom": [{"secretRef": {"name": "s"}}]}
    assert RULE.violations(_with(more=whole)) == ["app: all entries of a Secret are environment variables"]
    assert (
        RULE.violations(_with(env=[{"name": "TOKEN_FILE", "value": "/x"}], more={"envFrom": [{"configMapRef": {}}]}))
        == []
    )


def test_the_rule_passes_named_exceptions_and_services_that_ask_for_variables() -> None:
    assert RULE.violations(_with(env=[FROM_SECRET], notes={secret_files.IN_ENVIRONMENT_NOTE: "environment"})) == []
    for container, variable in secret_files.IN_ENVIRONMENT:
        named = _with(env=[{**FROM_SECRET, "name": variable}], more={"name": container})
        assert RULE.violations(named) == []
        assert RULE.violations(_with(env=[{**FROM_SECRET, "name": variable}])) != [], (
            "another container is no exception"
        )


def test_a_service_that_asks_for_variables_is_marked_for_the_rule() -> None:
    data = with_services(notes={**EVERYTHING, "secretsIn": "environment"}, audit_reader=READER)
    found = {w.name: w for w in _workloads(registered_of(data))}
    assert RULE.violations(found["local-notes"]) == []
    assert any("secretKeyRef" in str(container.get("env")) for container in containers(found["local-notes"]))


def test_the_documentation_lists_every_secret_that_stays_in_the_environment() -> None:
    text = (paths.PROJECT / "docs/explanation/secrets.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+)` \| `([A-Z_]+)` \| (.+) \|$", text, re.MULTILINE)
    assert {(container, variable): reason for container, variable, reason in listed} == secret_files.IN_ENVIRONMENT


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_proof_sees_secrets_in_files(environment: str) -> None:
    workload = read(registered(environment)).workloads["prompt"]
    assert workload.secrets.keys() >= {("login-prompt", "kafka")}
