"""The node: its parts are killed, it is stopped, and it is removed without a trace. The tests end with a reset."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest
from kubernetes import client, config

from local import paths
from local.images.pipeline import read_index
from local.node import settings
from local.node.node import Node
from local.node.settings import NodePaths
from tests.e2e.conftest import forge
from tests.e2e.data_client import RESTRICTED
from tests.node import machine

pytestmark = pytest.mark.drill("node")
PROCESSES = [p.name for p in Node().processes()]


def _api() -> client.CoreV1Api:
    return client.CoreV1Api(config.new_client_from_config(str(NodePaths().kubeconfig)))


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_part_is_healed_without_loss(name: str) -> None:
    marker = f"written-before-{name}"
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name=marker), data={"k": "v"})
    _api().create_namespaced_config_map("default", body)
    process = next(p for p in Node().processes() if p.name == name)
    victim = process.running()
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    Node().up(lambda: read_index()["pause"].reference)  # the stage of `forge up` that brings the node up
    assert _api().read_namespaced_config_map(marker, "default").data == {"k": "v"}
    _api().delete_namespaced_config_map(marker, "default")
    assert process.running() is not None


def test_up_without_changes_restarts_nothing() -> None:
    before = {p.name: p.running().pid for p in Node().processes()}
    forge("up")
    assert {p.name: p.running().pid for p in Node().processes()} == before


def test_secrets_are_sealed_in_etcd() -> None:
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="sealed"), string_data={"k": "swordfish-in-etcd"})
    _api().create_namespaced_secret("default", body)
    stored = b"".join(p.read_bytes() for p in (NodePaths().root / "etcd").rglob("*") if p.is_file())
    _api().delete_namespaced_secret("sealed", "default")
    assert b"swordfish-in-etcd" not in stored
    assert b"k8s:enc:secretbox:v1:key1" in stored


def test_the_audit_log_records_writes_without_secrets() -> None:
    body = client.V1Secret(metadata=client.V1ObjectMeta(name="audited"), string_data={"k": "swordfish-in-audit"})
    _api().create_namespaced_secret("default", body)
    _api().delete_namespaced_secret("audited", "default")
    log = NodePaths().logs / "audit.log"
    deadline = time.monotonic() + 40  # the log is written in batches
    while time.monotonic() < deadline and b'"name":"audited"' not in log.read_bytes():
        time.sleep(0.5)
    content = log.read_text()
    assert '"name":"audited"' in content
    assert "swordfish-in-audit" not in content


def test_keys_are_private() -> None:
    loose = [p for p in NodePaths().pki.iterdir() if p.stat().st_mode & 0o077]
    assert loose == []


def test_servers_listen_on_loopback_or_the_nodes_own_address() -> None:
    import psutil

    allowed = {"127.0.0.1", "::1", str(settings.NODE_ADDRESS)}
    open_to_others = [
        (p.name, c.laddr)
        for p in Node().processes()
        for c in psutil.Process(p.running().pid).net_connections("inet")
        if c.status == psutil.CONN_LISTEN and c.laddr.ip not in allowed
    ]
    assert open_to_others == []


def test_an_anonymous_caller_is_refused() -> None:
    import httpx

    url = f"https://{settings.NODE_ADDRESS}:{settings.API_PORT}/api/v1/secrets"
    answer = httpx.get(url, verify=str(NodePaths().pki / "cluster-ca.crt"), trust_env=False)
    assert answer.status_code == 401


def _foreign_image_is_refused() -> bool:
    """Whether admission policies apply: the platform's namespaces accept only images of the release."""
    image, limits = "registry.example/a@sha256:" + "0" * 64, {"limits": {"memory": "16Mi"}}
    container = {"name": "a", "image": image, "securityContext": RESTRICTED, "resources": limits}
    pod = {"metadata": {"generateName": "foreign-"}, "spec": {"containers": [container]}}
    try:
        _api().create_namespaced_pod("cogniforge", pod, dry_run="All")
    except client.ApiException as refused:
        return "the image is not part of this release" in str(refused.body)
    return False


def test_a_stopped_node_starts_twice_with_all_policies_in_force_and_keeps_its_data() -> None:
    """Admission and network policies must not block a cold start."""
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="kept"), data={"k": "v"})
    _api().create_namespaced_config_map("default", body)
    for _ in range(2):
        assert _foreign_image_is_refused()
        forge("down")
        assert not any(p.running() for p in Node().processes())
        assert "The platform is up" in forge("up").stdout
        assert _foreign_image_is_refused()
        assert _api().read_namespaced_config_map("kept", "default").data == {"k": "v"}


@pytest.fixture(scope="module")
def machine_after_reset() -> dict[str, list[str]]:
    forge("reset", "--yes")
    return machine.snapshot()


def test_reset_leaves_no_state(machine_after_reset: dict[str, list[str]]) -> None:
    assert not paths.state().exists()
    assert machine_after_reset["processes"] == []
    assert machine_after_reset["cgroups"] == []


def test_reset_leaves_no_network_link(machine_after_reset: dict[str, list[str]]) -> None:
    assert not [link for link in machine_after_reset["links"] if link.startswith(("veth", "cogniforge"))]


def test_reset_leaves_the_machine_as_it_was(machine_after_reset: dict[str, list[str]]) -> None:
    before = machine.before()
    if before is None:
        pytest.skip("the environment was up before the tests began: there is nothing to compare with")
    assert machine_after_reset == before


def test_a_taken_port_is_explained(machine_after_reset: dict[str, list[str]]) -> None:
    with socket.socket() as holder:
        # Connections of the previous node may still be closing.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", settings.ETCD_PORT))
        holder.listen()
        result = forge("up", check=False)
    assert result.returncode == 1
    assert f"127.0.0.1:{settings.ETCD_PORT}" in result.stderr
    assert f"pid {os.getpid()}" in result.stderr
    forge("reset", "--yes")
