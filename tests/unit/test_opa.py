"""OPA as a component: its resources, its rights, and its place between gateway and data layer."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

import pulumi

from policies.access.objects import plain
from tests.unit.test_platform import registered_of, without_servers

PART = "opa"


def with_opa(**opa: object) -> list[pulumi.runtime.MockResourceArgs]:
    """Resources of the local environment with OPA."""
    return registered_of(without_servers("local") | {"security": {"opa": opa}})


def one(resources: list[pulumi.runtime.MockResourceArgs], kind: str, name: str = f"local-{PART}") -> Any:
    """The inputs of the only resource of this kind and name."""
    (found,) = [plain(r.inputs) for r in resources if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def test_without_the_section_there_is_no_opa_and_the_gateway_asks_nobody() -> None:
    resources = registered_of(without_servers("local"))
    assert not [r.name for r in resources if PART in r.name.split("-")]
    assert "ext_authz" not in json.dumps(one(resources, "Secret", "local-gateway-config"))


def test_the_gateway_asks_opa_and_nobody_else_may() -> None:
    resources = with_opa()
    config = json.loads(one(resources, "Secret", "local-gateway-config")["stringData"]["envoy.json"])
    (cluster,) = [c for c in config["static_resources"]["clusters"] if c["name"] == "authorizer"]
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    port = one(resources, "Service")["spec"]["ports"][0]["port"]
    assert endpoint["address"]["socket_address"] == {"address": "opa.cogniforge", "port_value": port}
    asked, scraped = one(resources, "NetworkPolicy")["spec"]["ingress"]
    names = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in asked["from"]]
    assert (names, asked["ports"]) == (["gateway"], [{"port": "grpc"}])
    assert scraped["ports"] == [{"port": "http"}]


def test_a_pod_is_ready_only_with_a_bundle_in_force_and_old_pods_stay_until_then() -> None:
    spec = one(with_opa(), "Deployment")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not spec["template"]["spec"]["automountServiceAccountToken"]


def test_the_bundle_is_public_and_its_key_is_not_in_the_cluster() -> None:
    resources = with_opa(tenants={"acme": {"hours": [{"days": ["monday"], "begin": "08:00", "end": "18:00"}]}})
    bundle = one(resources, "ConfigMap", "local-opa-bundle")
    assert bundle["immutable"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(bundle["binaryData"]["bundle.tar.gz"]))) as archive:
        data = archive.extractfile("data.json")
        assert data is not None
        tenants = json.load(data)["installation"]["tenants"]
    assert tenants["acme"]["hours"] == [{"days": ["Monday"], "from": 480, "until": 1080}]
    kinds = ("ConfigMap", "Secret", "Deployment")
    assert "PRIVATE KEY" not in str([plain(r.inputs) for r in resources if r.typ.split(":")[-1] in kinds])


def test_opa_follows_the_directory_of_keys_with_a_login_that_can_read_it_only() -> None:
    resources = with_opa()
    conf = json.dumps([plain(r.inputs) for r in resources if r.typ.endswith(":Secret") and "nats" in r.name])
    assert "$JS.API.CONSUMER.CREATE.KV_tenants" in conf
    login = one(resources, "Secret", "local-logins-opa")
    assert sorted(login["stringData"]) == ["kafka", "nats"]
    (container,) = one(resources, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert [one["name"] for one in container["env"]] == ["GOMEMLIMIT"]
    assert "/var/run/secrets/service" in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_one_replica_has_no_disruption_budget() -> None:
    for replicas, budgets in ((1, 0), (2, 1)):
        resources = with_opa(replicas=replicas)
        assert (
            len([r for r in resources if r.typ.endswith(":PodDisruptionBudget") and r.name == "local-opa"]) == budgets
        )
