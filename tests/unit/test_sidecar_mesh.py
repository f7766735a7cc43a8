"""The local mesh: what is rendered for istiod, for sidecars and for their traffic."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components.config.base import Resources
from components.config.parse import parse
from components.config.problems import ConfigError
from components.mesh import istiod, sidecar
from components.mesh.sidecar import AGENT_PORT, Sidecar
from local.node import addons, capture, configs
from local.node.settings import NodePaths
from local.toolchain.tools import BUILD_TAGS, TOOLS, ToolName
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, stack_file, without_servers
from tests.unit.test_schemas import mistakes

pytestmark = pytest.mark.xdist_group("tree")
WORKLOADS = (":Deployment", ":StatefulSet", ":Job", ":CronJob")


@functools.cache
def resources(opa: bool = False) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    """Resources of the local environment with sidecars."""
    more: dict[str, Any] = {"security": {"opa": {}}} if opa else {}
    return tuple(registered_of(without_servers("local") | {"mesh": {"mode": "sidecar"}} | more))


def of(kind: str, *, opa: bool = False) -> dict[str, Any]:
    """Inputs of the objects of a kind by name in Kubernetes."""
    found = [plain(r.inputs) for r in resources(opa) if r.typ.endswith(f":{kind}")]
    return {one["metadata"]["name"]: one for one in found if one["metadata"].get("name")}


def template(name: str, *, opa: bool = False) -> Any:
    """The pod template of a Deployment."""
    return of("Deployment", opa=opa)[name]["spec"]["template"]


def members(*, opa: bool = False) -> list[str]:
    """Deployments with a sidecar."""
    return [name for name in of("Deployment", opa=opa) if name != sidecar.PART]


def test_every_deployment_has_a_sidecar_that_starts_first_and_nothing_else_has_one() -> None:
    for name in members(opa=True):
        first, second = template(name, opa=True)["spec"]["initContainers"][:2]
        assert (first["name"], second["name"]) == ("istio-validation", "istio-proxy"), name
        assert second["restartPolicy"] == "Always", name
        assert template(name, opa=True)["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio", name
    others = [r for r in resources() if r.typ.endswith(WORKLOADS[1:]) or r.name == "local-istiod"]
    assert others
    assert not [r.name for r in others if "istio-proxy" in json.dumps(plain(r.inputs), default=str)]


def test_sidecars_and_istiod_are_restricted_and_have_limits() -> None:
    pods = [template(name)["spec"] for name in (*members(), sidecar.PART)]
    containers = [one for pod in pods for one in (*pod.get("initContainers", []), *pod["containers"])]
    for container in containers:
        security = container["securityContext"]
        assert security["runAsNonRoot"] and security["readOnlyRootFilesystem"], container["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}, container["name"]
        assert not security["allowPrivilegeEscalation"], container["name"]
        assert container["resources"]["limits"]["memory"], container["name"]


def test_kubelet_probes_go_to_the_agent_which_asks_the_container() -> None:
    pod = template("router")["spec"]
    (container,) = pod["containers"]
    (proxy,) = [one for one in pod["initContainers"] if one["name"] == "istio-proxy"]
    probed = json.loads(next(v["value"] for v in proxy["env"] if v["name"] == "ISTIO_KUBE_APP_PROBERS"))
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[kind]["httpGet"]
        assert asked["port"] == AGENT_PORT
        assert probed[asked["path"]]["httpGet"]["port"] == 8080
    assert probed["/app-health/router/readyz"]["httpGet"]["path"] == "/readyz"


def test_a_tcp_probe_and_a_command_probe_are_kept_apart() -> None:
    made = Sidecar("space", "image", Resources(), 60).added(
        {
            "metadata": {"labels": {"app.kubernetes.io/name": "part"}},
            "spec": {
                "containers": [
                    {
                        "name": "part",
                        "ports": [{"name": "main", "container_port": 7000}],
                        "readiness_probe": {"tcp_socket": {"port": "main"}, "period_seconds": 3},
                        "liveness_probe": {"exec_": {"command": ["true"]}},
                    }
                ]
            },
        }
    )
    (container,) = made["spec"]["containers"]
    assert container["readiness_probe"] == {
        "period_seconds": 3,
        "http_get": {"path": "/app-health/part/readyz", "port": AGENT_PORT},
    }
    assert container["liveness_probe"] == {"exec_": {"command": ["true"]}}


def test_clients_reach_the_gateway_without_its_sidecar() -> None:
    notes = template("gateway")["metadata"]["annotations"]
    assert notes["traffic.sidecar.istio.io/excludeInboundPorts"] == "8443"
    assert "gateway" not in of("DestinationRule")
    others = [name for name in members() if name != "gateway"]
    assert not [n for n in others if "excludeInboundPorts" in json.dumps(template(n)["metadata"], default=str)]


def test_the_gateway_names_each_service_as_the_host_by_which_a_sidecar_finds_it() -> None:
    (config,) = [plain(r.inputs) for r in resources() if r.name == "local-gateway-config"]
    text = config["stringData"]["envoy.json"]
    assert '"host_rewrite_literal":"router.cogniforge:8080"' in text
    plainly = [plain(r.inputs) for r in registered_of(without_servers("local")) if r.name == "local-gateway-config"]
    assert "host_rewrite_literal" not in plainly[0]["stringData"]["envoy.json"]


def test_every_service_of_a_member_is_called_with_mutual_tls_and_limits() -> None:
    rules = of("DestinationRule", opa=True)
    services = of("Service", opa=True)
    expected = {
        name
        for name, one in services.items()
        if one["spec"]["selector"]["app.kubernetes.io/name"] in members(opa=True) and name != "gateway"
    }
    assert set(rules) == expected
    for name, rule in rules.items():
        policy = rule["spec"]["trafficPolicy"]
        assert rule["spec"]["host"] == f"{name}.cogniforge.svc.cluster.local"
        assert policy["tls"] == {"mode": "ISTIO_MUTUAL"}
        assert policy["connectionPool"]["tcp"]["maxConnections"]
        assert policy["outlierDetection"]["consecutiveGatewayErrors"]
        assert policy["retryBudget"]["percent"]


def test_only_parts_that_connect_elsewhere_may_leave_the_mesh() -> None:
    leaving = set(of("Sidecar"))
    policies = [plain(r.inputs) for r in resources() if r.typ.endswith(":NetworkPolicy")]
    outward = {
        one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for one in policies
        if "Egress" in one["spec"]["policyTypes"] and one["spec"]["podSelector"]
    }
    assert leaving == outward & set(members())
    assert leaving < set(members())
    (config,) = [plain(r.inputs) for r in resources() if r.name == "local-istiod-config"]
    assert json.loads(config["data"]["mesh"])["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"}


def test_every_port_has_a_protocol_so_that_no_sidecar_has_to_guess() -> None:
    services = [one for one in of("Service").values() if one["metadata"]["name"] != sidecar.PART]
    ports = [port for one in services for port in one["spec"]["ports"]]
    assert {port["appProtocol"] for port in ports} == {"http", "grpc", "tcp"}


def test_policies_are_made_for_members_only() -> None:
    allowed = {name.removeprefix("allow-") for name in of("AuthorizationPolicy") if name.startswith("allow-")}
    assert allowed == {"entrance", *members()} - {"gateway"}
    assert of("PeerAuthentication")["strict"]["spec"] == {"mtls": {"mode": "STRICT"}}


def test_istiod_reads_no_secrets_and_its_root_key_is_in_no_object() -> None:
    rules = [rule for kind in ("Role", "ClusterRole") for rule in of(kind)[_named(kind)]["rules"]]
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}
    (held,) = [plain(r.inputs) for r in resources() if r.typ.endswith(":Secret") and r.name == "local-istiod-issuer"]
    assert set(held["stringData"]) == {"ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"}
    keys = [r for r in resources() if r.typ.endswith(":PrivateKey") and r.name.startswith("local-istiod")]
    assert sorted(r.name for r in keys) == ["local-istiod-issuer-first", "local-istiod-root-first"]


def _named(kind: str) -> str:
    return {"Role": "istiod", "ClusterRole": "cogniforge-istiod"}[kind]


def test_only_pods_with_a_sidecar_reach_istiod() -> None:
    served, scraped = of("NetworkPolicy")[sidecar.PART]["spec"]["ingress"]
    assert served["ports"] == [{"port": "xds"}]
    (peer,) = served["from"]
    assert peer["podSelector"]["matchLabels"]["security.istio.io/tlsMode"] == "istio"
    assert scraped["ports"] == [{"port": "metrics"}]


@pytest.mark.parametrize("opa", [False, True])
def test_custom_resources_are_valid(opa: bool) -> None:
    custom = [plain(r.inputs) for r in resources(opa) if ".istio.io/" in r.typ]
    kinds = {one["kind"] for one in custom}
    assert {"AuthorizationPolicy", "DestinationRule", "PeerAuthentication", "Sidecar", "VirtualService"} == kinds
    assert {one["metadata"]["name"]: mistakes(one) for one in custom if mistakes(one)} == {}


def test_the_mesh_config_trusts_one_namespace() -> None:
    config = istiod.mesh_config("space")
    assert config["rootNamespace"] != "space", "Istio ignores policies of single workloads in the root namespace"
    assert config["discoverySelectors"] == [{"matchLabels": {"kubernetes.io/metadata.name": "space"}}]


@pytest.mark.parametrize(
    ("environment", "mesh", "limit"),
    [
        ("local", {"mode": "ambient"}, "must be off or sidecar in the local environment"),
        ("staging", {"mode": "ambient", "certificateMinutes": 5}, "allowed in the local environment only"),
        ("staging", {"mode": "sidecar", "sidecar": {"memory": "1Gi"}}, "allowed in the local environment only"),
        ("staging", {"mode": "sidecar", "authorities": ["own"]}, "allowed in the local environment only"),
        ("local", {"mode": "sidecar", "authorities": []}, "at least 1"),
        ("local", {"mode": "sidecar", "authorities": ["a", "b", "c"]}, "at most 2"),
        ("local", {"mode": "sidecar", "authorities": ["a", "a"]}, "must be unique"),
    ],
)
def test_a_mesh_that_an_environment_cannot_have_is_refused(environment: str, mesh: dict[str, Any], limit: str) -> None:
    with pytest.raises(ConfigError, match=limit):
        parse(stack_file(environment) | {"mesh": mesh})


def test_the_images_of_the_mesh_are_built_only_for_an_environment_that_runs_them() -> None:
    asked = parse(without_servers("local") | {"mesh": {"mode": "sidecar"}}).asked_images
    assert {"istiod", "istio-proxy"} <= set(asked)
    assert not {"istiod", "istio-proxy"} & set(parse(without_servers("local")).asked_images)
    assert not {"istiod", "istio-proxy"} & set(parse(stack_file("staging")).asked_images)


def test_tools_of_the_mesh_are_built_only_when_asked_for() -> None:
    mesh = [tool for tool in TOOLS.values() if tool.module == "istio"]
    assert {tool.name for tool in mesh} == {ToolName.PILOT_DISCOVERY, ToolName.PILOT_AGENT, ToolName.ISTIO_CNI}
    assert all(tool.for_tests and tool.asked for tool in mesh)
    assert not set(mesh) & {tool for tool in TOOLS.values() if not tool.asked}
    assert {tool.build_tags for tool in mesh} == {
        "grpcnotrace,osusergo,netgo,vtprotobuf,disable_pgv",
        "grpcnotrace,osusergo,netgo,agent,disable_pgv",
    }


def test_other_tools_keep_their_build_and_their_place_in_the_cache() -> None:
    assert TOOLS[ToolName.OPA].build_tags == BUILD_TAGS


def test_the_node_finds_debians_plugins_and_istios(tmp_path: Path) -> None:
    node = NodePaths(tmp_path / "node", tmp_path / "run")
    program = tmp_path / "istio-cni"
    program.write_text("")
    capture.link_programs(node)
    assert not (node.plugins / "istio-cni").exists()
    capture.link_programs(node, program)
    capture.link_programs(node, program)
    assert (node.plugins / "istio-cni").resolve() == program
    assert str(node.plugins) in configs.containerd(node, "pause").read_text()


def test_the_plugin_writes_rules_of_nftables_and_leaves_the_nodes_own_pods_alone(tmp_path: Path) -> None:
    entry = capture.plugin(NodePaths(tmp_path))
    assert entry["type"] == "istio-cni"
    assert entry["native_nftables"]
    assert entry["exclude_namespaces"] == ["kube-system"]
    (role,) = [one for one in addons.rights() if one["metadata"]["name"] == "cogniforge:capture" and "rules" in one]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
