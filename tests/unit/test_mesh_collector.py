"""Prometheus in the local mesh: its certificate, what it may reach, and how it asks pods with a sidecar."""

from __future__ import annotations

import functools
import json
from typing import Any

import pulumi
import pytest

from components.base import SCRAPER
from components.mesh import member_certificate, sidecar
from policies.access.objects import plain
from tests.unit.test_platform import registered_of, without_servers

pytestmark = pytest.mark.xdist_group("tree")
COLLECTOR: dict[str, Any] = {"observability": {"prometheus": {}}}
MESH: dict[str, Any] = {"mesh": {"mode": "sidecar", "certificateMinutes": 60}}


@functools.cache
def resources(mesh: bool = True, collector: bool = True) -> tuple[pulumi.runtime.MockResourceArgs, ...]:
    """Resources of the local environment."""
    return tuple(registered_of(without_servers("local") | (MESH if mesh else {}) | (COLLECTOR if collector else {})))


def named(kind: str, name: str, *, mesh: bool = True, collector: bool = True) -> Any:
    """Inputs of the resource of a kind with this name in Pulumi."""
    (found,) = [plain(r.inputs) for r in resources(mesh, collector) if r.typ.endswith(f":{kind}") and r.name == name]
    return found


def pod(*, mesh: bool = True) -> Any:
    """Spec of Prometheus' pod."""
    return named("StatefulSet", "local-prometheus", mesh=mesh)["spec"]["template"]["spec"]


def jobs(*, mesh: bool = True) -> dict[str, Any]:
    """Jobs of Prometheus by name."""
    data = named("ConfigMap", "local-prometheus-files", mesh=mesh)["data"]
    return {job["job_name"]: job for job in json.loads(data["prometheus.yml"])["scrape_configs"]}


def mounts(container: Any) -> dict[str, str]:
    """Volumes of a container by their path."""
    return {one["mountPath"]: one["name"] for one in container["volumeMounts"]}


def test_the_server_starts_once_its_certificate_is_there_and_alone_reads_it() -> None:
    (agent,) = pod()["initContainers"]
    assert (agent["restartPolicy"], agent["startupProbe"]["httpGet"]["port"]) == ("Always", sidecar.AGENT_PORT)
    held = mounts(agent)[member_certificate.FOLDER]
    readers = [one["name"] for one in pod()["containers"] if held in mounts(one).values()]
    assert readers == [SCRAPER[1]]
    (volume,) = [one for one in pod()["volumes"] if one["name"] == held]
    assert volume["emptyDir"]["medium"] == "Memory"


def test_the_agent_asks_istiod_of_the_platform_without_a_proxy_of_its_own() -> None:
    (agent,) = pod()["initContainers"]
    given = {one["name"]: one.get("value") for one in agent["env"]}
    assert given["CA_ADDR"] == "istiod.cogniforge.svc:15012"
    assert given["DISABLE_ENVOY"] == "true"
    assert given["SECRET_TTL"] == "60m"
    assert given["OUTPUT_CERTS"] in mounts(agent)


def test_the_agent_trusts_the_authority_of_the_mesh() -> None:
    (agent,) = pod()["initContainers"]
    (volume,) = [one for one in pod()["volumes"] if one["name"] == mounts(agent)[sidecar.ROOT_FOLDER]]
    trusted = named("ConfigMap", "local-prometheus-mesh-root")
    assert volume["configMap"]["name"] == trusted["metadata"]["name"]
    assert trusted["metadata"]["namespace"] == SCRAPER[0]
    assert trusted["data"] == named("ConfigMap", "local-istiod-root")["data"]


def test_pods_with_a_sidecar_are_asked_with_the_certificate() -> None:
    job = jobs()["pods"]
    (rule,) = [one for one in job["relabel_configs"] if one.get("target_label") == "__scheme__"]
    assert (rule["source_labels"], rule["regex"]) == (
        ["__meta_kubernetes_pod_label_security_istio_io_tlsMode"],
        "istio",
    )
    assert rule["replacement"] == "https"
    used = {job["tls_config"][field] for field in ("ca_file", "cert_file", "key_file")}
    assert used == {member_certificate.ROOT, member_certificate.CHAIN, member_certificate.KEY}


def test_sidecars_admit_the_account_of_its_certificate() -> None:
    account = pod()["serviceAccountName"]
    policies = [plain(r.inputs) for r in resources() if r.typ.endswith(":AuthorizationPolicy")]
    scraped = {one["metadata"]["name"]: one for one in policies if one["metadata"]["name"].startswith("scrape-")}
    assert {"scrape-router", "scrape-gateway"} <= set(scraped)
    principals = {
        p for one in scraped.values() for r in one["spec"]["rules"] for p in r["from"][0]["source"]["principals"]
    }
    assert principals == {f"cluster.local/ns/{SCRAPER[0]}/sa/{account}"}


def test_without_a_mesh_it_has_no_certificate() -> None:
    assert "initContainers" not in pod(mesh=False)
    assert not {"tls_config", "enable_http2"} & jobs(mesh=False)["pods"].keys()
    assert jobs(mesh=True)["pods"]["enable_http2"] is False
    assert not [r.name for r in resources(mesh=False) if r.name == "local-prometheus-mesh-root"]


@pytest.mark.parametrize("collector", [True, False])
def test_the_collector_reaches_istiod_only_if_there_is_one(collector: bool) -> None:
    policy = named("NetworkPolicy", "local-istiod", collector=collector)
    (served,) = [rule for rule in policy["spec"]["ingress"] if rule["ports"] == [{"port": "xds"}]]
    spaces = [peer.get("namespaceSelector", {}).get("matchLabels") for peer in served["from"]]
    assert ({"kubernetes.io/metadata.name": SCRAPER[0]} in spaces) is collector
