"""Kong's ingress controller, built from its tag, translates our Gateway API resources according to the intent."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from components.mesh import kong
from components.mesh.gateway_inputs import intent_args
from components.mesh.kong_gateway import KongGateway
from components.mesh.routes import Backend, Document, GatewayIntent, Rates, Route
from local.node.settings import NodePaths
from local.toolchain import builder
from local.toolchain.tools import ToolName
from tests.engine.conftest import Engine
from tests.engine.definitions import installed
from tests.engine.kong_admin import Admin, admin

pytestmark = pytest.mark.drill("controllers")
NAMESPACE = "kong-translation"
ROUTER = Backend("router", f"router.{NAMESPACE}", 8080)
INTENT = GatewayIntent(
    hosts=("api.example.com", "*.models.example.com"),
    port=443,
    routes=(Route("/v1/", ROUTER, 300, 60, 1024), Route("/v1/models", ROUTER, 300, 60, 512, encoded_slash=True)),
    rates=Rates((10, 20), (50, 100)),
    about='{"name": "x"}',
    documents=(Document("/openapi/router.json", ROUTER, "/openapi.json"),),
)


@pytest.fixture(scope="module")
def definitions(api: client.ApiClient) -> Iterator[None]:
    """The CRDs of Gateway API and of Kong, as Kong's chart brings them."""
    with installed(api, "gateway-api/*", "kong-ingress-controller/*"):
        yield


@pytest.fixture(scope="module")
def space(core: client.CoreV1Api) -> Iterator[None]:
    """Objects that exist before the gateway: its namespace, the Router's Service."""
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    ports = [{"port": 8080}]
    core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "router"}, "spec": {"ports": ports}})
    proxy = {"type": "ClusterIP", "ports": [{"name": "kong-proxy-tls", "port": 443, "targetPort": 8443}]}
    core.create_namespaced_service(NAMESPACE, {"metadata": {"name": "gateway-proxy"}, "spec": proxy})
    slices = {
        "metadata": {"name": "router", "labels": {"kubernetes.io/service-name": "router"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.1.2.3"], "conditions": {"ready": True}}],
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
    }
    client.DiscoveryV1Api(core.api_client).create_namespaced_endpoint_slice(NAMESPACE, slices)
    yield
    core.delete_namespace(NAMESPACE)


@pytest.fixture(scope="module")
def translated(definitions: None, space: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Create the component, then run the controller until the double of Kong has the configuration."""
    from components.security.certificate import Certificate

    folder = tmp_path_factory.mktemp("kong")
    # The release is recorded, not installed, since charts and images of Kong are unavailable here.
    engine = Engine(folder, COGNIFORGE_SIMULATED_AWS=str(folder / "account"))

    def program() -> None:
        issued = Certificate("c", {"namespace": NAMESPACE, "secret_name": "tls", "hosts": ["api.example.com"]})
        args: Any = {
            **intent_args(INTENT),
            "namespace": NAMESPACE,
            "keys": {"default": "cf-secret"},
            "certificate_secret": issued.secret_name,
            "replicas": 2,
            "cpu": "100m",
            "memory": "256Mi",
        }
        KongGateway("gateway", args)

    engine.up(program)
    with admin() as server, _controller(server, folder / "controller.log"):
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and len((server.config or {}).get("services", [])) < len(kong.routes(INTENT)):
            time.sleep(0.5)
        assert server.config, (folder / "controller.log").read_text()[-4000:]
        # The first configuration may lack the latest objects.
        settled = None
        while settled != server.hash and time.monotonic() < deadline:
            settled = server.hash
            time.sleep(4)
        yield server.config
    engine.destroy()


class _controller:
    def __init__(self, server: Admin, log: Path) -> None:
        self._log = log.open("ab")
        command = [str(builder.resolve(ToolName.KONG_CONTROLLER)), "--kubeconfig", str(NodePaths().kubeconfig)]
        command += ["--kong-admin-url", server.url, "--watch-namespace", NAMESPACE]
        command += ["--publish-service", f"{NAMESPACE}/gateway-proxy", "--publish-status-address", "127.0.0.1"]
        command += ["--anonymous-reports=false", "--election-namespace", NAMESPACE, "--proxy-sync-seconds", "1"]
        command += ["--health-probe-bind-address", "127.0.0.1:0", "--metrics-bind-address", "127.0.0.1:0"]
        self._command = command

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)


def _routes(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Routes by the name of their HTTPRoute, with all paths."""
    found: dict[str, dict[str, Any]] = {}
    for service in config["services"]:
        for route in service["routes"]:
            name = route["name"].split(".")[2]
            found.setdefault(name, {**route, "paths": []})["paths"] += route["paths"]
    return found


def _plugins(config: dict[str, Any], name: str = "router-0") -> dict[str, dict[str, Any]]:
    """Plugins of a route by name, at any place in Kong's configuration."""
    found = [
        p
        for s in config["services"]
        for r in s["routes"]
        if r["name"].split(".")[2] == name
        for p in (*r.get("plugins", []), *s.get("plugins", []))
    ]
    return {p["name"]: p["config"] for p in [*found, *config.get("plugins", [])]}


def test_the_translation_has_the_intents_routes(translated: dict[str, Any]) -> None:
    found = _routes(translated)
    for wanted in kong.routes(INTENT):
        route = found[wanted.name]
        paths = {p.lstrip("~").rstrip("$") for p in route["paths"]}
        assert wanted.path.rstrip("/$") in {p.rstrip("/") for p in paths}, wanted.name
        assert set(route["hosts"]) == set(kong.host_names(INTENT))


def test_refused_paths_come_before_all_others(translated: dict[str, Any]) -> None:
    found = _routes(translated)
    order = [found[name]["regex_priority"] for name in ("refused-0", "router-1-encoded", "refused-encoded")]
    assert order == sorted(order, reverse=True)
    assert found["refused-encoded"]["regex_priority"] > max(
        route.get("regex_priority") or 0 for name, route in found.items() if name in ("about", "router-0", "router-1")
    )


def test_bodies_are_not_kept_before_the_service_has_seen_the_head(translated: dict[str, Any]) -> None:
    assert not any(route["request_buffering"] for route in _routes(translated).values())


def test_every_route_requires_a_key_or_is_answered_by_kong_itself(translated: dict[str, Any]) -> None:
    for name in _routes(translated):
        assert _plugins(translated, name).keys() & {"key-auth", "request-termination"}, name


def test_requests_go_to_the_routers_pods(translated: dict[str, Any]) -> None:
    targets = {t["target"] for u in translated["upstreams"] for t in u["targets"]}
    assert targets == {"10.1.2.3:8080"}


def test_a_stalled_stream_is_cut_off_after_the_intents_time(translated: dict[str, Any]) -> None:
    assert {s["read_timeout"] for s in translated["services"]} == {60_000}


@pytest.mark.parametrize("plugin", [p.plugin for p in kong.plugins(INTENT)])
def test_a_plugin_is_configured_according_to_the_intent(translated: dict[str, Any], plugin: str) -> None:
    wanted = next(p.config for p in kong.plugins(INTENT) if p.plugin == plugin)
    assert wanted.items() <= _plugins(translated)[plugin].items()


def test_clients_are_consumers_with_their_keys(translated: dict[str, Any]) -> None:
    consumers = {c["username"]: {k["key"] for k in c["keyauth_credentials"]} for c in translated["consumers"]}
    assert consumers == {"default": {"cf-secret", "Bearer cf-secret"}}


def test_the_certificate_is_there(translated: dict[str, Any]) -> None:
    assert [c for c in translated["certificates"] if "BEGIN CERTIFICATE" in c["cert"]]


def test_metrics_are_on_for_all(translated: dict[str, Any]) -> None:
    assert "prometheus" in {p["name"] for p in translated["plugins"]}


def test_the_controller_accepts_the_routes(translated: dict[str, Any], api: client.ApiClient) -> None:
    objects: Callable[..., Any] = client.CustomObjectsApi(api).list_namespaced_custom_object
    deadline, seen = time.monotonic() + 60, {}
    while time.monotonic() < deadline:
        routes = objects("gateway.networking.k8s.io", "v1", NAMESPACE, "httproutes")["items"]
        seen = {
            r["metadata"]["name"]: {
                c["type"]: c["status"] for p in r.get("status", {}).get("parents", []) for c in p["conditions"]
            }
            for r in routes
        }
        if seen and all(c.get("Accepted") == "True" == c.get("ResolvedRefs") for c in seen.values()):
            return
        time.sleep(0.5)
    pytest.fail(str(seen))
