"""A program in a folder and a virtual environment of its own, with the wheel installed and no checkout on its path."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes import client

from local.images.pipeline import read_index
from local.node.settings import NodePaths
from tests.exclusive import cluster_wide

pytestmark = pytest.mark.engine
HERE = Path(__file__).parent
Pulumi = Callable[..., str]


@pytest.fixture
def pulumi(tmp_path: Path, installed_wheel: Path, unique: str) -> Iterator[Pulumi]:
    """Function that runs `forge pulumi` in the program's folder, and returns standard output."""
    folder = tmp_path / "program"
    shutil.copytree(HERE / "program", folder)
    (folder / ".venv").symlink_to(installed_wheel)
    account = tmp_path / "account"
    account.mkdir()
    (account / "quotas.json").write_text(json.dumps({"vpcs": 5, "eips": 5, "L-417A185B": 1000}))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "COGNIFORGE_HOME": str(tmp_path / "home"),
        "KUBECONFIG": str(NodePaths().kubeconfig),
        "COGNIFORGE_SIMULATED_AWS": str(account),
        "COGNIFORGE_SIMULATED_EKS": str(NodePaths().kubeconfig),
        "PATH": os.pathsep.join([str(HERE / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
    }

    def run(*arguments: str) -> str:
        command = [str(folder / ".venv" / "bin" / "forge"), "pulumi", *arguments, "--non-interactive"]
        result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    run("stack", "init", "try")
    run("config", "set", "name", unique)
    run("config", "set", "image", read_index()["gateway"].reference)
    yield run
    run("destroy", "--yes", "--skip-preview")


def test_twelve_components_come_up_from_the_wheel_alone(
    pulumi: Pulumi, installed_wheel: Path, core: client.CoreV1Api, unique: str
) -> None:
    with cluster_wide():  # EksCluster creates a default StorageClass
        assert json.loads(pulumi("preview", "--json"))["changeSummary"]["create"] > 100
        pulumi("up", "--yes", "--skip-preview")
        outputs = json.loads(pulumi("stack", "output", "--json", "--show-secrets"))
        types = {r["type"] for r in json.loads(pulumi("stack", "export"))["deployment"]["resources"]}
        stored = core.read_namespaced_secret("key", unique).data["key"]
        pulumi("destroy", "--yes", "--skip-preview")
    assert len({kind for kind in types if kind.startswith("cogniforge:")}) >= 12
    assert outputs["key"] == base64.b64decode(stored).decode()
    assert Path(outputs["prefix"]).resolve() == installed_wheel.resolve()
    assert Path(outputs["package"]).resolve().is_relative_to(installed_wheel.resolve())
