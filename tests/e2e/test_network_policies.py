"""NetworkPolicies are enforced on the local node, tested with real packets between network namespaces."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client

from components.base import PART_OF
from components.mesh.sidecar import ACCOUNT
from local.images import pipeline
from tests.e2e.data_client import RESTRICTED, main_process
from tests.waiting import until

pytestmark = pytest.mark.e2e
NAMESPACE, PUBLIC = "cogniforge", "gateway"
STRANGER = "stranger"
_TRY = """
import asyncio, json, os, sys
os.setuid(int(sys.argv[1]))
async def reached(address, port):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 5)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True
async def main(targets):
    return await asyncio.gather(*(reached(*target) for target in targets))
print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
"""


@dataclass(frozen=True)
class Endpoint:
    """A port of a container."""

    part: str
    pod: str
    address: str
    port: int
    name: str


def _pods(api: client.ApiClient, namespace: str, **labels: str) -> list[Any]:
    """Ready pods with an address of the pod network."""
    wanted = ",".join(f"{key.replace('_', '-')}={value}" for key, value in labels.items())
    found = client.CoreV1Api(api).list_namespaced_pod(namespace, label_selector=wanted).items
    return [p for p in found if p.status.phase == "Running" and not p.metadata.deletion_timestamp and p.status.pod_ip]


def _part(pod: Any) -> str:
    return pod.metadata.labels.get("app.kubernetes.io/name", "")


def _endpoints(pods: list[Any]) -> list[Endpoint]:
    return [
        Endpoint(_part(pod), pod.metadata.name, pod.status.pod_ip, port.container_port, port.name or "")
        for pod in pods
        for container in pod.spec.containers
        for port in container.ports or []
        if (port.protocol or "TCP") == "TCP"
    ]


def _matches(selector: Any, labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector.match_labels or {}).items())


def _allowed(
    policies: list[Any], caller: Any, target: Any, endpoint: Endpoint, spaces: dict[str, dict[str, str]]
) -> bool:
    """Whether the namespace's policies admit `caller` to a port of `target`, by the API's rules."""
    chosen = [p for p in policies if _matches(p.spec.pod_selector, target.metadata.labels)]
    for policy in chosen:
        for rule in policy.spec.ingress or []:
            ports = rule.ports or []
            if ports and not any(str(p.port) in {endpoint.name, str(endpoint.port)} for p in ports):
                continue
            if not rule._from or any(_peer(peer, caller, policy.metadata.namespace, spaces) for peer in rule._from):
                return True
    return not chosen


def _peer(peer: Any, caller: Any, namespace: str, spaces: dict[str, dict[str, str]]) -> bool:
    if peer.ip_block is not None:
        return ipaddress.ip_address(caller.status.pod_ip) in ipaddress.ip_network(peer.ip_block.cidr)
    theirs = caller.metadata.namespace
    if peer.namespace_selector is None:
        if theirs != namespace:
            return False
    elif not _matches(peer.namespace_selector, spaces[theirs]):
        return False
    return peer.pod_selector is None or _matches(peer.pod_selector, caller.metadata.labels or {})


def _reached(pod: Any, targets: list[Endpoint]) -> set[Endpoint]:
    """Endpoints that accept a TCP connection from the pod's network namespace.

    The connections are those of a sidecar's account: a sidecar accepts all others itself, wherever they go.
    """
    pid = main_process(pod.status.container_statuses[0].container_id.removeprefix("containerd://"))
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", _TRY, str(ACCOUNT)]
    result = subprocess.run(
        command, input=json.dumps([[t.address, t.port] for t in targets]), capture_output=True, text=True, check=True
    )
    return {target for target, answered in zip(targets, json.loads(result.stdout), strict=True) if answered}


def _shown(caller: Any, endpoints: set[Endpoint]) -> list[str]:
    return sorted(f"{caller.metadata.name} -> {e.pod}:{e.port} ({e.name})" for e in endpoints)


@pytest.fixture(scope="module")
def stranger(api: client.ApiClient) -> Iterator[Any]:
    """A pod in its own namespace, without any permission."""
    core = client.CoreV1Api(api)
    namespace = core.create_namespace({"metadata": {"generateName": f"{STRANGER}-"}}).metadata.name
    container = {
        "name": "client",
        "image": pipeline.read_index()["data-tasks"].reference,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "securityContext": RESTRICTED,
    }
    spec = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    core.create_namespaced_pod(namespace, {"metadata": {"name": STRANGER}, "spec": spec})
    try:
        yield until(lambda: next(iter(_pods(api, namespace)), None), 60)
    finally:
        core.delete_namespace(namespace)


def test_a_pod_without_rights_reaches_nothing_but_the_public_port(api: client.ApiClient, stranger: Any) -> None:
    pods = _pods(api, NAMESPACE)
    found = _reached(stranger, _endpoints(pods))
    assert {(e.part, e.name) for e in found} == {(PUBLIC, "https")}


def test_every_pair_of_pods_reaches_exactly_what_the_policies_allow(api: client.ApiClient, stranger: Any) -> None:
    pods = _pods(api, NAMESPACE, **{"app.kubernetes.io/part-of": PART_OF})
    policies = client.NetworkingV1Api(api).list_namespaced_network_policy(NAMESPACE).items
    spaces = {n.metadata.name: n.metadata.labels or {} for n in client.CoreV1Api(api).list_namespace().items}
    by_name = {pod.metadata.name: pod for pod in pods}
    # An unused port refuses connections like a policy. The firewall is not between a pod and itself.
    targets = [e for pod in pods for e in _reached(pod, _endpoints([pod]))]
    more, less = [], []
    for caller in [*pods, stranger]:
        others = [e for e in targets if e.pod != caller.metadata.name]
        allowed = {e for e in others if _allowed(policies, caller, by_name[e.pod], e, spaces)}
        found = _reached(caller, others)
        more += _shown(caller, found - allowed)
        less += _shown(caller, allowed - found)
    assert more == [], "reached although no policy allows it"
    assert less == [], "not reached although a policy allows it"


def test_the_nodes_own_probes_pass(api: client.ApiClient) -> None:
    """The kubelet reaches every pod from the node, independently of policies."""
    ready = {p.metadata.name: all(s.ready for s in p.status.container_statuses) for p in _pods(api, NAMESPACE)}
    assert ready and all(ready.values()), ready


def test_removing_a_policy_allows_traffic_and_adding_one_blocks_it(api: client.ApiClient, stranger: Any) -> None:
    network, name = client.NetworkingV1Api(api), "closed"
    (prober, *_) = [p for p in _pods(api, NAMESPACE) if _part(p) == "router"]
    dns = _pods(api, "kube-system", **{"k8s-app": "coredns"})[0]
    target = Endpoint("dns", dns.metadata.name, dns.status.pod_ip, 53, "dns-tcp")
    body = {
        "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": []},
    }
    assert _reached(stranger, [target]), "no policy chooses the stranger"
    network.create_namespaced_network_policy(stranger.metadata.namespace, body)
    try:
        until(lambda: not _reached(stranger, [target]), 30)
        assert _reached(prober, [target]), "the policy is of another namespace"
    finally:
        network.delete_namespaced_network_policy(name, stranger.metadata.namespace)
    until(lambda: _reached(stranger, [target]), 30)
