"""Calls between services: tokens, the callees' settings and network policies name the same callers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from components import secret_files
from components.ai import service_identity
from components.ai.model_server import hosts, key_secret, part_name
from components.config.parse import parse
from components.security.store_names import AUDIENCE
from components.services.registry import SERVICES, rpc_callers
from tests.unit.test_platform import ENVIRONMENTS, of_kind, registered_of, stack_file

pytestmark = pytest.mark.xdist_group("tree")


def _deployments(environment: str) -> dict[str, dict[str, Any]]:
    return {
        r.inputs["metadata"]["name"]: r.inputs["spec"]["template"]["spec"] for r in of_kind(environment, ":Deployment")
    }


def _servers(environment: str) -> dict[str, dict[str, Any]]:
    """Pods of services that serve gRPC, by their Deployment."""
    return {
        name: pod
        for name, pod in _deployments(environment).items()
        if name in SERVICES and any(port.get("name") == "grpc" for port in pod["containers"][0].get("ports", []))
    }


def _variables(pod: dict[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in pod["containers"][0].get("env", [])}


def _sources(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for v in pod["volumes"] if v["name"] == service_identity.VOLUME for s in v["projected"]["sources"]]


def _tokens(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A pod's projected tokens by their path."""
    return {
        s["serviceAccountToken"]["path"]: s["serviceAccountToken"] for s in _sources(pod) if "serviceAccountToken" in s
    }


def _let_through(environment: str, name: str, port: str) -> set[str]:
    policy = next(r for r in of_kind(environment, ":NetworkPolicy") if r.inputs["metadata"]["name"] == name)
    return {
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for rule in policy.inputs["spec"]["ingress"]
        if {"port": port} in rule["ports"]
        for peer in rule["from"]
    }


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_grpc_servers_admit_the_callers_of_the_network_policies(environment: str) -> None:
    servers = _servers(environment)
    assert set(servers) == {name for name, record in SERVICES.items() if rpc_callers(record)}
    for name, pod in servers.items():
        variables = _variables(pod)
        callers = {caller.removeprefix("cogniforge/") for caller in json.loads(variables["SERVICE_CALLERS"])}
        assert callers == set(rpc_callers(SERVICES[name])) == _let_through(environment, name, "grpc"), name
        assert variables["SERVICE_ISSUER"] == service_identity.API_SERVER, name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_grpc_servers_may_fetch_the_clusters_keys(environment: str) -> None:
    outlets = {r.inputs["metadata"]["name"] for r in of_kind(environment, ":NetworkPolicy")}
    for name, pod in _servers(environment).items():
        assert f"{name}-api-server" in outlets
        assert "audience" not in _tokens(pod)["issuer/token"], "it is the API server's"
        (authority,) = [s["configMap"] for s in _sources(pod) if "configMap" in s]
        assert (authority["name"], authority["items"][0]["path"]) == ("kube-root-ca.crt", "issuer/ca.crt")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_service_has_tokens_for_exactly_the_services_that_it_calls(environment: str) -> None:
    for name, pod in _deployments(environment).items():
        asked = {
            str(value).partition("-rpc.")[0]
            for variable, value in _variables(pod).items()
            if "-rpc." in str(value) and variable != "TARGETS"
        }
        tokens = {path: token["audience"] for path, token in _tokens(pod).items() if "audience" in token}
        tokens.pop(f"tokens/{AUDIENCE}", None)  # for the secret store
        assert tokens == {f"tokens/{callee}": callee for callee in asked}, name
        assert asked <= set(SERVICES[name].asks) if name in SERVICES else not asked


def _mounted(environment: str) -> dict[str, Any]:
    """Credentials of the Router for model servers, by file: (Secret, entry), or the audience of a token."""
    pod = _deployments(environment)["router"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "credentials"]
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["credentials"] == {"name": "credentials", "mountPath": "/etc/router-credentials", "readOnly": True}
    found: dict[str, Any] = {}
    for source in volume["projected"]["sources"]:
        if "secret" in source:
            (item,) = source["secret"]["items"]
            found[item["path"]] = (source["secret"]["name"], item["key"])
        else:
            found[source["serviceAccountToken"]["path"]] = source["serviceAccountToken"]["audience"]
    return found


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_model_server_requires_a_key_that_the_router_sends_to_its_host_only(environment: str) -> None:
    config, mounted = parse(stack_file(environment)), _mounted(environment)
    asked: dict[str, tuple[str, str]] = {}
    servers = {r.inputs["metadata"]["name"]: r.inputs["spec"] for r in of_kind(environment, ":ServingRuntime")}
    servers |= {name: pod for name, pod in _deployments(environment).items() if name.startswith("model-")}
    for name, pod in servers.items():
        (volume,) = (volume for volume in pod["volumes"] if volume["name"] == secret_files.VOLUME)
        (source,) = (source["secret"] for source in volume["projected"]["sources"])
        assert not source.get("optional"), "without it, no server starts"
        (item,) = source["items"]
        assert _variables(pod)["MODEL_KEY_FILE"] == f"{secret_files.FOLDER}/{item['path']}"
        asked[name] = (source["name"], item["key"])
    served = [model for model in config.models if model.external is None]
    assert asked == {part_name(model): (key_secret(model), "key") for model in served}
    assert len({secret for secret, _ in asked.values()}) == len(served) > 0
    for model in served:
        for host in hosts(model, "cogniforge"):
            assert mounted[f"inside/{host}"] == (key_secret(model), "key")
    made = {r.inputs["metadata"].get("name") for r in of_kind(environment, "core/v1:Secret")}
    assert {secret for secret, _ in asked.values()} <= made
    table = next(r for r in of_kind(environment, ":ConfigMap") if "routes.json" in r.inputs.get("data", {}))
    routes = json.loads(table.inputs["data"]["routes.json"])["routes"]
    upstreams = {route["upstream"] for route in routes if "upstream" in route}
    assert {urlsplit(url).hostname for url in upstreams} <= {path.removeprefix("inside/") for path in mounted}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_router_shows_embeddings_a_token_of_its_own(environment: str) -> None:
    assert _mounted(environment)["inside/embeddings.cogniforge"] == "embeddings"
    variables = _variables(_deployments(environment)["embeddings"])
    assert "cogniforge/router" in json.loads(variables["SERVICE_CALLERS"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_tokens_are_short_lived_and_mounted_read_only(environment: str) -> None:
    seen = 0
    for pod in _deployments(environment).values():
        if tokens := _tokens(pod):
            seen += len(tokens)
            assert all(600 <= token["expirationSeconds"] <= 3600 for token in tokens.values())
            mounts = {m["name"]: m for m in pod["containers"][0]["volumeMounts"]}
            assert mounts[service_identity.VOLUME]["readOnly"] and pod["serviceAccountName"]
    assert seen


def test_a_router_without_calling_services_serves_no_grpc() -> None:
    data = stack_file("local")
    data["services"].pop("retriever")
    resources = registered_of(data)
    (router,) = [r for r in resources if r.name == "local-router" and r.typ.endswith(":Deployment")]
    pod = router.inputs["spec"]["template"]["spec"]
    assert "SERVICE_ISSUER" not in _variables(pod)
    asked = {f"tokens/{callee}" for callee in ("embeddings", "guardrails", "prompt", "user")}
    assert set(_tokens(pod)) - {f"tokens/{AUDIENCE}"} == asked
