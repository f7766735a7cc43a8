"""`forge` after an engine was killed: the next command finishes, and removes the remains of the killed one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from kubernetes import client

from cli import stack
from local import paths
from local.errors import LocalError
from local.node.settings import NodePaths
from local.toolchain import builder, leftovers, shim
from local.toolchain.tools import ToolName
from tests.waiting import until

pytestmark = pytest.mark.engine
_PROGRAM = """
import os
import pulumi_kubernetes as k8s
import pulumi
provider = k8s.Provider("cluster", kubeconfig=os.environ["KUBECONFIG"])
opts = pulumi.ResourceOptions(provider=provider)
meta, unique = {"namespace": os.environ["NAMESPACE"]}, os.environ["UNIQUE"]
k8s.core.v1.ConfigMap("kept", metadata={**meta, "name": f"kept-{unique}"}, data={}, opts=opts)
if os.environ.get("EXTRA"):
    never = {"pulumi.com/waitFor": "jsonpath={.data.never}"}
    extra = {**meta, "name": f"extra-{unique}", "annotations": never}
    k8s.core.v1.ConfigMap("extra", metadata=extra, data={}, opts=opts)
    k8s.rbac.v1.ClusterRole(f"role-{unique}", metadata={"annotations": never}, rules=[], opts=opts)
"""


@pytest.fixture
def project(tmp_path: Path, namespace: str, unique: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: recovery\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(_PROGRAM)
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(paths, "PROJECT", tmp_path)
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/state")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "only for this test")
    monkeypatch.setenv("KUBECONFIG", str(NodePaths().kubeconfig))
    monkeypatch.setenv("NAMESPACE", namespace)
    monkeypatch.setenv("UNIQUE", unique)
    return tmp_path


def _maps(core: client.CoreV1Api, namespace: str, unique: str) -> set[str]:
    names = [c.metadata.name for c in core.list_namespaced_config_map(namespace).items]
    return {name.removesuffix(f"-{unique}") for name in names if name.endswith(unique)}


def _killed_up(name: str, made: Callable[[], bool]) -> None:
    """Kill the engine and its plugins while they wait for created resources."""
    program = builder.resolve(ToolName.PULUMI)
    command = [str(program), "up", "--stack", name, "--yes", "--skip-preview", "--non-interactive"]
    env = {**shim.environment(), "EXTRA": "1"}
    process = psutil.Popen(command, cwd=paths.PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(made, 120)
    for victim in [*process.children(recursive=True), process]:
        victim.kill()
    process.wait()


def _roles(api: client.ApiClient, unique: str) -> list[str]:
    found = client.RbacAuthorizationV1Api(api).list_cluster_role().items
    return [role.metadata.name for role in found if role.metadata.name.startswith(f"role-{unique}")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("operation", ["up", "destroy"])
def test_unneeded_resources_of_a_killed_update_are_removed(
    project: Path, core: client.CoreV1Api, api: client.ApiClient, namespace: str, unique: str, operation: str
) -> None:
    name = f"recovery-{operation}"
    stack.ensure(name)
    _killed_up(name, lambda: "extra" in _maps(core, namespace, unique) and bool(_roles(api, unique)))
    assert leftovers.pending(project / "state", name)
    stack.ensure(name)
    stack.run(name, operation, "--skip-preview", quiet=True)
    assert _maps(core, namespace, unique) == ({"kept"} if operation == "up" else set())
    assert _roles(api, unique) == []
    assert leftovers.pending(project / "state", name) == []
    if operation == "up":
        stack.run(name, "destroy", quiet=True)
        assert _maps(core, namespace, unique) == set()


def test_a_stack_that_is_being_updated_is_left_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.ensure("busy")
    lock = project / "state" / ".pulumi" / "locks" / "organization" / "recovery" / "busy" / "held.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat()
    lock.write_text(json.dumps({"pid": os.getpid(), "hostname": socket.gethostname(), "timestamp": now}))
    monkeypatch.setattr(stack, "TURN_S", 1)
    with pytest.raises(LocalError, match="another command is updating busy"):
        stack.run("busy", "up", quiet=True)
    assert lock.exists()
