"""The component tree under Pulumi's mocks: the resources that each environment registers."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import pulumi
import pytest

from components.config.base import quantity
from components.config.parse import parse
from policies.access import render
from tests.stack_files import stack_file

pytestmark = pytest.mark.xdist_group("tree")

ENVIRONMENTS = ["local", "dev", "staging", "prod"]


def without_servers(environment: str) -> dict[str, Any]:
    """Its stack file without the servers of security and observability, and without the Portal, which asks them."""
    data = stack_file(environment)
    services = {name: section for name, section in data["services"].items() if name != "portal"}
    return {**data, "services": services, "security": {}, "observability": {}}


@functools.cache
def registered_without_servers(environment: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return registered_of(without_servers(environment))


@functools.cache
def registered(environment: str) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    return registered_of(stack_file(environment))


def registered_of(data: dict[str, Any], name: str | None = None) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    recorder = render.Recorder()
    render.record(parse(data), name, recorder)
    return tuple(recorder.resources)


def of_kind(environment: str, suffix: str) -> list[pulumi.runtime.MockResourceArgs]:
    return [r for r in registered(environment) if r.typ.endswith(suffix)]


def pods(environment: str) -> dict[str, dict[str, Any]]:
    kinds = (":Deployment", ":StatefulSet", ":Job")
    return {r.name: r.inputs["spec"]["template"]["spec"] for k in kinds for r in of_kind(environment, k)}


def test_names_of_resources_begin_with_the_environments_own_name() -> None:
    of_stage = {(r.typ, r.name) for r in registered("prod")}
    own = {(r.typ, r.name) for r in registered_of(stack_file("prod"), "prod-eu")}
    assert own == {(typ, re.sub(r"^prod-", "prod-eu-", name)) for typ, name in of_stage}
    assert [name for typ, name in own if not name.startswith("prod-eu-") and not typ.startswith("pulumi:")] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_has_gateway_router_and_a_model(environment: str) -> None:
    names = {r.inputs["metadata"]["name"] for r in of_kind(environment, ":Deployment")}
    releases = {r.inputs["name"] for r in of_kind(environment, ":Release")}
    assert {"router", "model-demo"} <= names
    assert ("gateway" in names) != ("gateway" in releases)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_names_of_resources_start_with_the_environment(environment: str) -> None:
    own = [r for r in registered(environment) if not r.typ.startswith("pulumi:")]
    assert [r.name for r in own if not r.name.startswith(f"{environment}-")] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_nothing_that_is_known_later_is_written_as_text(environment: str) -> None:
    assert [r.name for r in registered(environment) if "Calling __str__" in repr(r.inputs)] == []


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_containers_are_restricted(environment: str) -> None:
    for name, pod in pods(environment).items():
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["runAsNonRoot"], name
            assert security["readOnlyRootFilesystem"], name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"]["drop"] == ["ALL"], name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_containers_have_requests_and_a_memory_limit(environment: str) -> None:
    for name, pod in pods(environment).items():
        for container in pod["containers"]:
            resources = container["resources"]
            # Completed pods may use more than the guaranteed resources.
            assert resources["requests"]["memory"] == resources["limits"]["memory"] or pod.get("restartPolicy"), name
            assert resources["requests"]["cpu"], name


def test_a_platform_may_have_external_models_only() -> None:
    external = {"name": "gpt", "external": {"url": "https://api.example.com/v1", "secretName": "vendor", "model": "x"}}
    resources = registered_of({**stack_file("local"), "models": [external], "routes": []})
    assert not [r.name for r in resources if "model-" in r.name and r.typ.endswith(":Deployment")]
    (table,) = [r for r in resources if r.typ.endswith(":ConfigMap") and "routes.json" in r.inputs.get("data", {})]
    routes = {route["model"]: route for route in json.loads(table.inputs["data"]["routes.json"])["routes"]}
    assert [target["upstream"] for target in routes["gpt"]["targets"]] == ["https://api.example.com/v1"]


def test_the_local_environment_leaves_a_quarter_of_two_cores_free() -> None:
    """Updates start new pods beside the old ones, and drills run a second environment beside this one."""
    asked = 0.0
    for kind in (":Deployment", ":StatefulSet", ":DaemonSet"):
        for resource in of_kind("local", kind):
            spec = resource.inputs["spec"]
            pod = spec["template"]["spec"]
            lasting = [one for one in pod.get("initContainers", ()) if one.get("restartPolicy") == "Always"]
            cpu = sum(float(quantity(one["resources"]["requests"]["cpu"])) for one in (*pod["containers"], *lasting))
            asked += spec.get("replicas", 1) * cpu
    assert asked <= 1.5, f"{asked:.3f} of 2 cores are requested"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pods_get_no_token_of_the_api_server(environment: str) -> None:
    with_token = {name for name, pod in pods(environment).items() if pod["automountServiceAccountToken"]}
    # The Router finds model servers; Prometheus finds pods, the gateway of spans their names; the store reviews tokens.
    asking = {"router", "prometheus", "telemetry-gateway", "secret-store"}
    assert {name.removeprefix(f"{environment}-") for name in with_token} <= asking


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_servers_have_all_three_probes(environment: str) -> None:
    for server in (*of_kind(environment, ":Deployment"), *of_kind(environment, ":StatefulSet")):
        container = server.inputs["spec"]["template"]["spec"]["containers"][0]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), server.name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_server_has_a_network_policy(environment: str) -> None:
    policies = {r.inputs["metadata"]["name"] for r in of_kind(environment, ":NetworkPolicy")}
    kinds = (":Deployment", ":StatefulSet", ":InferenceService")
    servers = {r.inputs["metadata"]["name"] for kind in kinds for r in of_kind(environment, kind)}
    between = {p for p in policies if p.endswith(("-readers", "-egress", "-log-collector", "-alerts", "-logs"))}
    policies -= between - {"default-egress"}  # further policies for pods of other namespaces
    # Kong's chart names its Deployment.
    others = {"gateway", *(p for p in policies if p.endswith(("-outlet", "-outside", "-api-server", "-traces")))}
    assert policies - others == {"default-deny", "default-egress", *servers} - {"gateway"}
    assert "gateway" in policies


def test_the_router_may_be_called_by_the_gateway_and_the_retriever() -> None:
    policy = next(r for r in of_kind("prod", ":NetworkPolicy") if r.inputs["metadata"]["name"] == "router")
    callers = {
        rule["ports"][0]["port"]: [
            peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]
        ]
        for rule in policy.inputs["spec"]["ingress"][:2]
    }
    assert callers == {"http": ["gateway"], "grpc": ["retriever"]}


def test_a_model_on_gpus_is_reached_by_the_router_and_the_scraper_and_reaches_its_weights() -> None:
    served = {r.inputs["metadata"]["name"] for r in of_kind("prod", ":InferenceService")}
    policies = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind("prod", ":NetworkPolicy")}
    assert served
    for name in served:
        peers = policies[name]["ingress"][0]["from"]
        names = [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in peers]
        assert names == ["router", "prometheus"]
        assert [port["port"] for port in policies[f"{name}-outside"]["egress"][0]["ports"]] == [443]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_services_called_over_grpc_are_enabled(environment: str) -> None:
    ports = {
        (r.inputs["metadata"]["name"], port["port"])
        for r in of_kind(environment, ":Service")
        for port in r.inputs["spec"]["ports"]
    }
    addresses = {
        variable["value"]
        for pod in pods(environment).values()
        for variable in pod["containers"][0].get("env", [])
        if "-rpc." in str(variable.get("value", "")) and variable["name"] != "TARGETS"
    }
    asked = {(host.partition(".")[0], int(port)) for host, _, port in (value.partition(":") for value in addresses)}
    assert ("router-rpc", 9090) in asked
    assert asked <= ports


def test_production_survives_the_loss_of_a_node() -> None:
    budgets = {r.inputs["metadata"]["name"] for r in of_kind("prod", ":PodDisruptionBudget")}
    assert budgets >= {"gateway", "router", "model-demo", "postgres", "nats", "schema-registry", "change-data-capture"}


def test_one_replica_of_a_service_needs_no_disruption_budget() -> None:
    parts = {
        r.inputs["metadata"]["labels"]["app.kubernetes.io/component"] for r in of_kind("local", ":PodDisruptionBudget")
    }
    assert parts == {"data"}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_namespace_enforces_the_restricted_standard(environment: str) -> None:
    namespace = next(r for r in of_kind(environment, ":Namespace") if r.inputs["metadata"]["name"] == "cogniforge")
    assert namespace.inputs["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_isolation_check_tries_every_port_of_every_service(environment: str) -> None:
    container = pods(environment)[f"{environment}-isolation"]["containers"][0]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    tried = {
        (host.partition(".")[0], port) for host, ports in json.loads(variables["TARGETS"]).items() for port in ports
    }
    offered = {
        (r.inputs["metadata"]["name"], port["port"])
        for r in of_kind(environment, ":Service")
        for port in r.inputs["spec"]["ports"]
        if r.inputs["spec"].get("type") != "LoadBalancer"
    }
    # The headless Service of a server has the same pods and ports as its other Service.
    assert {(name.removesuffix("-nodes"), port) for name, port in offered} <= tried


def test_a_cluster_that_enforces_no_policies_is_not_checked() -> None:
    data = stack_file("local")
    data["cluster"]["networkPolicies"] = "not-enforced"
    assert not [r for r in registered_of(data) if r.name == "local-isolation"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_full_stack_stays_small(environment: str) -> None:
    assert len(registered(environment)) <= 600


def test_an_external_model_is_called_with_a_mounted_secret() -> None:
    data = stack_file("local")
    outside = {"url": "https://api.example.com:8443/base", "model": "big", "secretName": "provider"}
    data["models"].append({"name": "big", "external": outside})
    resources = registered_of(data)
    (router,) = [r for r in resources if r.name == "local-router" and r.typ.endswith(":Deployment")]
    pod = router.inputs["spec"]["template"]["spec"]
    (volume,) = [v for v in pod["volumes"] if v["name"] == "credentials"]
    sources = [source["secret"] for source in volume["projected"]["sources"] if "secret" in source]
    (source,) = [source for source in sources if source["name"] == "provider"]
    assert source["items"] == [{"key": "key", "path": "api.example.com/model-big"}]
    assert {"name": "credentials", "mountPath": "/etc/router-credentials", "readOnly": True} in pod["containers"][0][
        "volumeMounts"
    ]
    (outlet,) = [r for r in resources if r.name == "local-router-outside"]
    assert [port["port"] for rule in outlet.inputs["spec"]["egress"] for port in rule["ports"]] == [8443]
    assert not [r for r in resources if r.name == "local-model-big"], "nothing is served here"
