"""The local environment with sidecars: identities, refusals, what is on the wire, renewal, and istiod away."""

from __future__ import annotations

import contextlib
import json
import secrets
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client

from cli import stack
from cli.cluster import kubectl
from components.base import SCRAPER as COLLECTOR
from components.mesh import member_certificate
from components.mesh.sidecar import CONTAINER, MEMBER, PART, ROOT_MAP
from components.services import making
from local import paths
from tests.e2e.bystander import bystander
from tests.e2e.conftest import forge, local_config
from tests.e2e.data_client import main_process
from tests.e2e.test_prometheus import ask
from tests.e2e.test_services import tenant_of_own
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.drill("mesh"), pytest.mark.timeout(1500)]
NAMESPACE, PORT = "cogniforge", 8080
CERTIFICATE_MINUTES = 2
LOAD_S, REQUESTS_PER_S = 150, 20
OPEN = "drill-open"
_ASK = """
import http.client, json, sys
def answer(host, address, port):
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/healthz", headers={"host": f"{host}:{port}"})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()
print(json.dumps({host: answer(host, *place) for host, place in json.load(sys.stdin).items()}))
"""
_LISTEN = """
import select, socket, sys
link, words = sys.argv[1], [word.encode() for word in sys.argv[2:]]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.bind((link, 0))
print("listening", flush=True)
seen, total = set(), 0
while True:
    ready, _, _ = select.select([wire, sys.stdin], [], [])
    if sys.stdin in ready:
        break
    packet = wire.recv(65535)
    total += len(packet)
    seen |= {word.decode() for word in words if word in packet}
print(total, *sorted(seen), flush=True)
"""


def pods(api: client.ApiClient, **labels: str) -> list[Any]:
    """Running pods of the platform with these labels."""
    chosen = ",".join(f"{key}={value}" for key, value in labels.items())
    found = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE, label_selector=chosen).items
    return [pod for pod in found if pod.status.phase == "Running" and not pod.metadata.deletion_timestamp]


def members(api: client.ApiClient) -> dict[str, Any]:
    """A pod of each part in the mesh, by the part's name."""
    return {pod.metadata.labels["app.kubernetes.io/name"]: pod for pod in pods(api, **MEMBER)}


def inside(pod: Any) -> list[str]:
    """Beginning of a command in the network namespace of a pod."""
    pid = main_process(pod.status.container_statuses[0].container_id.removeprefix("containerd://"))
    return ["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c"]


def answers(pod: Any, targets: dict[str, tuple[str, int]]) -> dict[str, int]:
    """Status of each target's answer to a pod's plain HTTP request; 0: no answer."""
    asked = subprocess.run([*inside(pod), _ASK], input=json.dumps(targets), capture_output=True, text=True, check=True)
    return json.loads(asked.stdout)


@contextlib.contextmanager
def listening(pod: Any, link: str, *words: str) -> Iterator[dict[str, Any]]:
    """What a link of the pod's network namespace carries meanwhile: bytes, and which of the words in clear."""
    command = [*inside(pod), _LISTEN, link, *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    found: dict[str, Any] = {}
    try:
        yield found
    finally:
        printed, _ = process.communicate("", timeout=30)
        total, *seen = printed.split()
        found |= {"bytes": int(total), "words": seen}


def refused_in_clear(pod: Any) -> bool:
    """Whether a plain HTTP request of this machine, which has no identity of the mesh, gets no answer."""
    try:
        httpx.get(f"http://{pod.status.pod_ip}:{PORT}/healthz", trust_env=False, timeout=5)
    except httpx.TransportError:
        return True
    return False


def latencies(operator: httpx.Client, count: int = 300) -> list[float]:
    """Sorted durations of requests through the gateway to the Router and the model, in milliseconds."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    found: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        operator.post("/v1/chat/completions", json=body).raise_for_status()
        found.append((time.perf_counter() - begun) * 1000)
    return sorted(found)


def serial(api: client.ApiClient, part: str) -> str:
    """Serial number of the certificate that a part's sidecar uses now."""
    pod = members(api)[part].metadata.name
    command = [*kubectl(True, ""), "--namespace", NAMESPACE, "exec", pod, "-c", CONTAINER, "--"]
    shown = subprocess.run([*command, "pilot-agent", "request", "GET", "certs"], capture_output=True, text=True)
    chains = [one.get("cert_chain", []) for one in json.loads(shown.stdout)["certificates"]]
    return next(chain[0]["serial_number"] for chain in chains if chain)


def certificate() -> str:
    """Certificate with which Prometheus asks sidecars."""
    command = ("kubectl", "--namespace", COLLECTOR[0], "exec", f"{COLLECTOR[1]}-0", "-c", member_certificate.CONTAINER)
    return forge(*command, "--", "cat", member_certificate.CHAIN).stdout


class Load:
    """Requests at a fixed rate, and those that failed."""

    def __init__(self, operator: httpx.Client) -> None:
        self._http, self._end = operator, threading.Event()
        self.sent, self.failed = 0, list[str]()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._end.wait(1 / REQUESTS_PER_S):
            self.sent += 1
            try:
                answer = self._http.get("/v1/models")
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                self.failed.append(repr(error))

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(30)


@pytest.fixture(scope="module")
def before(api: client.ApiClient, operator: httpx.Client) -> dict[str, Any]:
    """What holds without the mesh."""
    (router,) = pods(api, **{"app.kubernetes.io/name": "router"})
    return {"latencies": latencies(operator), "refused": refused_in_clear(router)}


def update(text: str, **mesh: Any) -> None:
    """Update the environment of this stack file with a mesh of these settings."""
    content = yaml.safe_load(text)
    platform = content["config"]["cogniforge:platform"]
    platform["mesh"] = {"mode": "sidecar", "certificateMinutes": CERTIFICATE_MINUTES, **mesh}
    paths.rewrite(stack.config_file("local"), yaml.safe_dump(content))
    forge("up")


@pytest.fixture(scope="module", autouse=True)
def mesh(before: dict[str, Any]) -> Iterator[None]:
    """The environment with the mesh, and without at the end."""
    file = stack.config_file("local")
    text = file.read_text()
    begun = time.monotonic()
    try:
        update(text)
        print(f"mesh: forge up took {time.monotonic() - begun:.0f} s")
        yield
    finally:
        file.write_text(text)
        forge("up")


def test_all_parts_are_ready_and_work_through_their_sidecars(api: client.ApiClient, operator: httpx.Client) -> None:
    shown = forge("status").stdout
    assert "not ready" not in shown, shown
    assert {"gateway", "router", "user", "retriever", "audit", "billing"} <= set(members(api))
    for made in bystander(operator):
        made.works(operator)


def test_a_plain_request_without_an_identity_is_refused(before: dict[str, Any], api: client.ApiClient) -> None:
    assert not before["refused"], "the request reaches the service while there is no mesh"
    services = {name: pod for name, pod in members(api).items() if name in local_config().around.records}
    assert [name for name, pod in services.items() if not refused_in_clear(pod)] == []


@pytest.fixture
def no_network_policies(api: client.ApiClient) -> Iterator[None]:
    """A NetworkPolicy that admits all traffic, so that the mesh alone decides."""
    network = client.NetworkingV1Api(api)
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}
    network.create_namespaced_network_policy(NAMESPACE, {"metadata": {"name": OPEN}, "spec": spec})
    try:
        yield
    finally:
        network.delete_namespaced_network_policy(OPEN, NAMESPACE)


def test_without_network_policies_the_mesh_admits_exactly_the_recorded_callers(
    api: client.ApiClient, no_network_policies: None
) -> None:
    callers, there = making.callers(local_config()), members(api)
    services = client.CoreV1Api(api).list_namespaced_service(NAMESPACE).items
    targets = {
        one.metadata.name: (one.spec.cluster_ip, one.spec.ports[0].port)
        for one in services
        if one.metadata.name in callers
    }

    def matrix() -> dict[str, dict[str, bool]]:
        found = {who: answers(pod, targets) for who, pod in there.items()}
        return {who: {name: status == 200 for name, status in row.items()} for who, row in found.items()}

    wanted = {who: {name: who in callers[name] for name in targets} for who in there}
    until(lambda: matrix() == wanted, 60, lambda: f"{matrix()} is not {wanted}")


def test_a_pod_of_the_mesh_connects_only_to_what_the_mesh_knows(
    api: client.ApiClient, no_network_policies: None
) -> None:
    elsewhere = client.CoreV1Api(api).read_namespaced_service("metrics-server", "kube-system").spec.cluster_ip
    assert answers(members(api)["audit"], {"metrics-server": (elsewhere, 443)}) == {"metrics-server": 0}


def test_nothing_of_a_request_is_on_the_wire_in_clear(api: client.ApiClient, operator: httpx.Client) -> None:
    word = f"word{secrets.token_hex(8)}"
    body = {"model": "demo", "messages": [{"role": "user", "content": word}], "max_tokens": 4}
    with tenant_of_own(operator) as tenant, contextlib.ExitStack() as stack:
        there = members(api)
        wires = {name: stack.enter_context(listening(there[name], "eth0", word)) for name in ("router", "model-demo")}
        loops = stack.enter_context(listening(there["router"], "lo", word))
        for _ in range(20):
            tenant.http.post("/v1/chat/completions", json=body).raise_for_status()
    assert loops["words"] == [word], "the capture sees the request between the sidecar and the Router"
    for name, wire in wires.items():
        assert wire["bytes"] > 10_000, name
        assert wire["words"] == [], name


def test_certificates_are_renewed_under_load_without_a_failed_request(
    api: client.ApiClient, operator: httpx.Client
) -> None:
    first = {part: serial(api, part) for part in ("gateway", "router")}
    with Load(operator) as load:
        until(lambda: all(serial(api, part) != one for part, one in first.items()), LOAD_S)
        second = {part: serial(api, part) for part in first}
        until(lambda: all(serial(api, part) != one for part, one in second.items()), LOAD_S)
    print(f"mesh: {load.sent} requests during two renewals, {len(load.failed)} failed")
    assert load.failed == []
    assert load.sent > 100


def test_prometheus_reads_the_metrics_of_every_part_and_goes_on_when_its_certificate_is_renewed() -> None:
    def targets() -> list[dict[str, Any]]:
        return ask("targets")["activeTargets"]

    def down() -> list[str]:
        return [f"{one['labels']['job']}: {one['lastError']}" for one in targets() if one["health"] != "up"]

    until(lambda: len(targets()) > 15 and not down(), 120, lambda: "; ".join(down()))
    schemes = {one["labels"]["job"]: one["scrapeUrl"].partition(":")[0] for one in targets()}
    assert {schemes[name] for name in ("router", "gateway", "audit", "model-demo")} == {"https"}
    assert {schemes[name] for name in (PART, "kafka")} == {"http"}
    begun = certificate()
    until(lambda: certificate() != begun, CERTIFICATE_MINUTES * 60)
    missed = 'count_over_time(up{job="router"}[3m]) - sum_over_time(up{job="router"}[3m])'
    # The key and the certificate are two files, so the scrape between their replacements may fail.
    until(lambda: all(float(one["value"][1]) <= 1 for one in ask("query", query=missed)["result"]), 30)


def test_requests_go_on_while_istiod_is_away(api: client.ApiClient, operator: httpx.Client) -> None:
    core = client.CoreV1Api(api)
    (old,) = pods(api, **{"app.kubernetes.io/name": PART})
    with Load(operator) as load:
        core.delete_namespaced_pod(old.metadata.name, NAMESPACE, grace_period_seconds=0)
        until(
            lambda: any(
                pod.metadata.uid != old.metadata.uid and all(s.ready for s in pod.status.container_statuses or [])
                for pod in pods(api, **{"app.kubernetes.io/name": PART})
            ),
            120,
        )
    assert load.failed == []


def test_the_authority_is_replaced_in_three_updates_under_load(api: client.ApiClient, operator: httpx.Client) -> None:
    def trusted() -> str:
        return client.CoreV1Api(api).read_namespaced_config_map(ROOT_MAP, NAMESPACE).data["root-cert.pem"]

    first, text = trusted(), stack.config_file("local").read_text()
    with Load(operator) as load:
        for authorities in (["first", "second"], ["second", "first"], ["second"]):
            update(text, authorities=authorities)
            for made in bystander(operator):
                made.works(operator)
    print(f"mesh: {load.sent} requests during the roll-over, {len(load.failed)} failed: {load.failed[:5]}")
    assert trusted().count("BEGIN CERTIFICATE") == 1
    assert trusted() != first
    # Restarts of single replicas on two cores may cost requests; certificates that somebody refuses must not.
    assert [one for one in load.failed if one.startswith("403") or "CERTIFICATE" in one or "TLS" in one] == []


def test_the_mesh_costs_what_the_documentation_says(
    before: dict[str, Any], api: client.ApiClient, operator: httpx.Client
) -> None:
    with_mesh, without = latencies(operator), before["latencies"]
    for name, found in (("without", without), ("with", with_mesh)):
        print(f"mesh: {name}: p50 {statistics.median(found):.2f} ms, p99 {found[int(len(found) * 0.99)]:.2f} ms")
    memory = [_memory(pod) for pod in members(api).values()]
    print(f"mesh: a sidecar has {min(memory)} to {max(memory)} MiB; {len(memory)} sidecars")
    # Four sidecars are in the way: gateway, Router twice, model. Measured on two cores that do other work, too.
    assert statistics.median(with_mesh) - statistics.median(without) < 20


def _memory(pod: Any) -> int:
    """Memory of a pod's sidecar in MiB, as the kernel accounts it."""
    status = next(one for one in pod.status.init_container_statuses if one.name == CONTAINER)
    command = [*kubectl(True, ""), "--namespace", NAMESPACE, "exec", pod.metadata.name, "-c", CONTAINER, "--"]
    files = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
    shown = subprocess.run([*command, "sh", "-c", f"cat {' '.join(files)} 2>/dev/null"], capture_output=True, text=True)
    assert status.ready
    return int(shown.stdout.split()[0]) // 2**20
