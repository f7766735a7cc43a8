"""A copy of the project with its own command line, and environments of it beside the local one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client

from cli import environment_file
from components.config.cluster import ClusterKind
from components.config.platform import Environment
from local import paths
from local.node import settings
from local.node.settings import NodePaths
from local.toolchain import shim

BUILT_FOR = f"{settings.REGISTRY}/laptop"
"""Folder for the images of environments that build their own."""
_COPIED = ("__main__.py", "Pulumi.yaml", "cli", "components", "local", "policies", "service_images", "stacks")
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info")


class Checkout:
    """A copy of the project whose `forge` works on simulated accounts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lock = folder / "project", folder / "project/components/versions.lock.yaml"
        for name in _COPIED:
            source, target = paths.PROJECT / name, self.folder / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=_LEFT_OUT)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        # The program's own virtual environment, which Pulumi.yaml names.
        (self.folder / ".venv").symlink_to(sys.prefix)
        account = folder / "account"
        account.mkdir()
        (account / "quotas.json").write_text(json.dumps({"vpcs": 5, "eips": 10, "L-417A185B": 1000}))
        (folder / "backend").mkdir()
        fakes = paths.PROJECT / "tests" / "engine" / "bin"
        self._env = shim.environment() | {
            "PYTHONPATH": str(self.folder),
            "PATH": os.pathsep.join([str(fakes), str(Path(sys.executable).parent), shim.environment()["PATH"]]),
            "KUBECONFIG": str(NodePaths().kubeconfig),
            "PULUMI_BACKEND_URL": f"file://{folder / 'backend'}",
            "PULUMI_CONFIG_PASSPHRASE": "only for this test",
            "COGNIFORGE_SIMULATED_AWS": str(account),
            "COGNIFORGE_SIMULATED_EKS": str(NodePaths().kubeconfig),
        }
        self._env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)

    def forge(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run this copy's command line."""
        command = [sys.executable, "-c", "from cli.entry import main; main()", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env=self._env)
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    def edit(self, stack: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change a stack's configuration."""
        file = self.folder / "stacks" / f"Pulumi.{stack}.yaml"
        content = yaml.safe_load(file.read_text())
        change(content["config"]["cogniforge:platform"])
        file.write_text(yaml.safe_dump(content))


def without_data(config: dict[str, Any]) -> None:
    """Disable data servers, since a second data layer would not fit the node."""
    config.pop("data")
    config["services"] = {"router": config["services"]["router"]}


def small(config: dict[str, Any]) -> None:
    """Small resource requests: three environments must fit beside the local one, which takes most of two cores."""
    simulators = [model for model in config["models"] if model.get("engine", "simulator") == "simulator"]
    for sized in (config["gateway"], config["services"]["router"], *simulators):
        sized["resources"] = {"cpu": "20m", "memory": "192Mi"}


def current_context() -> str:
    """Context of the local node's kubeconfig."""
    return yaml.safe_load(NodePaths().kubeconfig.read_text())["current-context"]


@contextlib.contextmanager
def beside(folder: Path, name: str, port: int, api: client.ApiClient, **sections: Any) -> Iterator[Checkout]:
    """A running environment as `forge init NAME --on existing --build` configures it, without data servers.

    Its namespace has its name. `sections` are added to its configuration, or replace its sections.
    """
    made = Checkout(folder)
    config = environment_file.definition(
        environment_file.Answers(
            name,
            ClusterKind.EXISTING,
            Environment.LOCAL,
            registry=BUILT_FOR,
            context=current_context(),
            port=port,
            built=True,
        )
    )
    without_data(config)
    small(config)
    config["cluster"]["namespace"] = name
    config |= sections
    file = made.folder / "stacks" / f"Pulumi.{name}.yaml"
    file.write_text(yaml.safe_dump({"config": {"cogniforge:platform": config}}))
    try:
        made.forge("up", "-s", name)
        yield made
    finally:
        made.forge("destroy", "--yes", "-s", name, check=False)
    assert name not in {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}
