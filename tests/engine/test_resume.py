"""Updates that are killed at any moment: the next one completes them; nothing is duplicated, orphaned or lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pulumi.automation as auto
import pulumi_kubernetes as k8s
import pytest
from kubernetes import client

from local import paths
from local.providers.aws.account import Account
from local.providers.kubernetes import ownership
from local.providers.kubernetes.cluster import Cluster, Object
from local.toolchain import builder, leftovers, shim
from local.toolchain.tools import ToolName
from tests.engine.conftest import Engine, export
from tests.waiting import until

pytestmark = pytest.mark.drill("resume")
_DRILL = "KILL_ROUNDS" in os.environ
_ROUNDS = int(os.environ.get("KILL_ROUNDS", "3"))
_KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("v1", "PersistentVolumeClaim"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"),
)
_COUNT = 7
# In a separate process: the remains of a program whose engine was killed must not disturb the next one.
_MAIN = """
import json, os
from tests.engine import killed_programs
name, *arguments = json.loads(os.environ["PROGRAM"])
getattr(killed_programs, name)(*arguments)
"""


class Killed:
    """A stack whose updates are killed, observed from outside."""

    def __init__(self, folder: Path, namespace: str, whom: str, **variables: str) -> None:
        self.folder, self.namespace = folder, namespace
        plugins = Path(__file__).parent / "plugins"
        path = os.pathsep.join([str(plugins), str(builder.resolve(ToolName.PULUMI).parent), shim.environment()["PATH"]])
        variables |= {"PYTHONPATH": str(paths.PROJECT), "COGNIFORGE_PYTHON": sys.executable}
        variables |= {"KILLED": str(folder / "killed"), "KILL_WHOM": whom}
        self.engine = Engine(folder, **variables, PATH=path)
        (folder / "Pulumi.yaml").write_text("name: conformance\nruntime: python\n")  # its main is this folder
        (folder / "__main__.py").write_text(_MAIN)
        self.engine.stack.workspace.program = None
        self.cluster = Cluster(self.engine.stack.workspace.env_vars["KUBECONFIG"], None, None)
        self.first_uids: dict[tuple[str, str], str] = {}

    def phase(self, name: str, moments: str) -> None:
        self.engine.stack.workspace.env_vars |= {"PHASE": name, "MOMENTS": moments}

    def program(self, name: str, *arguments: Any) -> None:
        """Set the program of the next operations."""
        self.engine.stack.workspace.env_vars["PROGRAM"] = json.dumps([name, *arguments])

    def until_done(self, operation: Callable[[], Any]) -> None:
        """Repeat an operation until it is not killed anymore; it is killed at another point each time."""
        for _ in range(150):
            before = self.moments()
            try:
                operation()
            except auto.errors.CommandError as error:
                assert self.moments() > before, f"it failed by itself: {error}"
                assert leftovers.clear(self.folder) == []
                self.remember()
            else:
                return
        pytest.fail("it never comes to its end")

    def moments(self) -> int:
        file = self.folder / "killed"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def remember(self) -> None:
        for live in self.objects():
            self.first_uids.setdefault((live["kind"], live["metadata"]["name"]), live["metadata"]["uid"])

    def objects(self) -> list[Object]:
        """All objects in the cluster with this stack's label."""
        providers = [r["id"] for r in self.engine._resources() if r["type"] == "pulumi:providers:kubernetes"]
        if not providers:
            return []
        state = providers[0]
        found: list[Object] = []
        for api_version, kind in _KINDS:
            items = self.cluster.list(api_version, kind, self.namespace, labelSelector=f"{ownership.STATE}={state}")
            found += [{**item, "kind": kind} for item in items]
        return found

    def check(self) -> None:
        """Check that cluster and state contain the same objects once, and that another update changes nothing."""
        recorded = [r for r in self.engine._resources() if r["type"].startswith("kubernetes:")]
        live = self.objects()
        names = sorted((r["type"].rpartition(":")[2], r["id"].rpartition("/")[2]) for r in recorded)
        assert sorted((o["kind"], o["metadata"]["name"]) for o in live) == names
        assert len({r["urn"] for r in recorded}) == len(recorded) == _COUNT
        assert not any(r.get("delete") or r.get("pendingReplacement") for r in recorded)
        assert set(self.engine.preview().values()) == {"same"}


@pytest.fixture
def killed(tmp_path: Path, namespace: str, request: pytest.FixtureRequest) -> Iterator[Killed]:
    stack = Killed(tmp_path, namespace, getattr(request, "param", "all"))
    yield stack
    stack.engine.stack.workspace.env_vars["KILL_WHOM"] = "none"
    leftovers.clear(tmp_path)
    with contextlib.suppress(auto.errors.CommandError):
        stack.engine.destroy()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("killed", ["all", *(["engine", "plugin"] if _DRILL else [])], indirect=True)
def test_an_update_killed_at_any_write_can_be_resumed(killed: Killed, unique: str) -> None:
    killed.program("of_all_kinds", killed.namespace, unique, 1)
    killed.phase("create", "before after")
    killed.until_done(killed.engine.up)
    assert killed.moments() >= 2 * _COUNT
    kept = {(o["kind"], o["metadata"]["name"]): o["metadata"]["uid"] for o in killed.objects()}
    assert {k: kept.get(k) for k in killed.first_uids} == killed.first_uids, "what was made is adopted, not made again"
    killed.check()
    killed.program("of_all_kinds", killed.namespace, unique, 2)
    killed.phase("update", "after")
    killed.until_done(killed.engine.up)
    killed.check()
    made = killed.objects()
    killed.phase("destroy", "after")
    killed.until_done(killed.engine.destroy)
    assert [o for o in made if _exists(killed.cluster, o)] == []


@pytest.mark.timeout(600 + 90 * _ROUNDS)
def test_an_update_killed_at_a_random_time_can_be_resumed(killed: Killed, unique: str) -> None:
    """Number of rounds; `KILL_ROUNDS=100` makes a drill of the test."""
    killed.phase("random", "never")
    chance = random.Random(os.environ.get("KILL_SEED", unique))
    for number in range(_ROUNDS):
        killed.program("of_all_kinds", killed.namespace, unique, 1 + number % 2)
        destroying = number % 3 == 2
        operation = killed.engine.destroy if destroying else killed.engine.up
        with _killer(chance), contextlib.suppress(auto.errors.CommandError):
            operation()
        until(lambda: leftovers.clear(killed.folder) == [])
        operation()
        if destroying:
            assert not killed.engine._resources()
        else:
            killed.check()


@contextlib.contextmanager
def _killer(chance: random.Random) -> Iterator[None]:
    """Kill the engine, its plugins, or all of them, at a random time."""
    done, whom, after_s = threading.Event(), chance.choice(("engine", "plugins", "all")), chance.uniform(0, 4)

    def kill() -> None:
        me = psutil.Process()
        # The engine process of this operation; the process that reads the version has ended when plugins run.
        found = until(lambda: _plugins(me) or done.is_set())
        if found is True or done.wait(after_s):
            return
        for process in ([found[0].parent()] if whom != "plugins" else []) + (found if whom != "engine" else []):
            with contextlib.suppress(psutil.Error):
                process.kill()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _plugins(me: psutil.Process) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for process in me.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.cmdline()[1:3] == ["-m", "tests.engine.killing"]:
                found.append(process)
    return found


@pytest.mark.timeout(1200)
def test_an_account_whose_updates_are_killed_has_everything_once(tmp_path: Path, namespace: str) -> None:
    folder = tmp_path / "account"
    killed = Killed(tmp_path, namespace, "all", COGNIFORGE_SIMULATED_AWS=str(folder))
    account = Account(folder)
    (folder / "quotas.json").write_text(json.dumps({"vpcs": 5}))

    killed.program("of_an_account", "10.0")
    killed.phase("create", "before after")
    killed.until_done(killed.engine.up)
    assert sorted(r["kind"] for r in account.everything()) == ["ec2/subnet:Subnet", "ec2/vpc:Vpc", "iam/role:Role"]
    killed.phase("update", "after")
    killed.program("of_an_account", "10.9")
    killed.until_done(killed.engine.up)
    assert sorted(r["kind"] for r in account.everything()) == ["ec2/subnet:Subnet", "ec2/vpc:Vpc", "iam/role:Role"]
    recorded = {r["id"] for r in killed.engine._resources() if r["type"].startswith("aws:")}
    assert {r["id"] for r in account.everything()} == recorded
    killed.phase("destroy", "after")
    killed.until_done(killed.engine.destroy)
    assert list(account.everything()) == []


def test_another_states_object_is_not_taken_over(
    engine: Engine, namespace: str, unique: str, core: client.CoreV1Api, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two states may have stacks with the same name: the second one is refused, as for any existing object."""

    def program() -> None:
        k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace, "name": unique}, data={"k": "v"})

    engine.up(program)
    other = Engine(tmp_path_factory.mktemp("other"))
    assert "of another state" in other.failing_up(program)
    other.destroy()
    assert core.read_namespaced_config_map(unique, namespace).data == {"k": "v"}


def test_marks_are_in_the_cluster_and_not_in_outputs(engine: Engine, namespace: str, core: client.CoreV1Api) -> None:
    def program() -> None:
        config = k8s.core.v1.ConfigMap("c", metadata={"namespace": namespace}, data={})
        export(meta=config.metadata)

    meta = engine.up(program).outputs["meta"].value
    live = core.read_namespaced_config_map(meta["name"], namespace).metadata
    assert live.annotations[ownership.URN] == "urn:pulumi:test::conformance::kubernetes:core/v1:ConfigMap::c"
    assert ownership.STATE in live.labels
    assert ownership.URN not in meta["annotations"]
    assert "labels" not in meta
    assert engine.refresh(program)["update"] == 0


def _exists(cluster: Cluster, live: Object) -> bool:
    meta = live["metadata"]
    api_version = {kind: version for version, kind in _KINDS}[live["kind"]]
    try:
        cluster.get(api_version, live["kind"], meta.get("namespace"), meta["name"])
    except Exception:
        return False
    return True
