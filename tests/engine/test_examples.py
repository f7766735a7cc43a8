"""The examples and the plugin: other programs with single components of the platform."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pulumi.automation as auto
import pytest
from kubernetes import client

from local import paths
from local.images.pipeline import read_index
from local.node.settings import NodePaths
from local.toolchain import builder, shim
from local.toolchain.tools import ToolName

pytestmark = pytest.mark.engine
EXAMPLES = paths.PROJECT / "examples"
PLUGIN = paths.PROJECT / "components" / "plugin"
SCHEMA = paths.PROJECT / "docs" / "reference" / "components.schema.json"


def _environment(folder: Path) -> dict[str, str]:
    env = shim.environment() | {
        "PULUMI_BACKEND_URL": f"file://{folder}",
        "PULUMI_CONFIG_PASSPHRASE": "only for this test",
        "KUBECONFIG": str(NodePaths().kubeconfig),
    }
    env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
    env["PATH"] = f"{builder.resolve(ToolName.PULUMI).parent}:{env['PATH']}"
    os.environ["PATH"] = env["PATH"]
    return env


@pytest.fixture
def example(tmp_path: Path, installed_wheel: Path) -> Iterator[Callable[..., auto.Stack]]:
    """A stack of an example, created as by a user; destroyed at the end."""
    stacks: list[auto.Stack] = []
    work = tmp_path / "examples"
    # A copy, so that the checkout gets no stack file; the plugin stays at the example's path.
    shutil.copytree(EXAMPLES, work)
    (tmp_path / "components").symlink_to(paths.PROJECT / "components")
    (tmp_path / "state").mkdir()

    def make(name: str, **config: str) -> auto.Stack:
        # If the example names a virtual environment, it is one with the wheel instead of this checkout.
        (work / name / ".venv").symlink_to(installed_wheel)
        options = auto.LocalWorkspaceOptions(env_vars=_environment(tmp_path / "state"))
        stack = auto.create_stack("try", work_dir=str(work / name), opts=options)
        for key, value in config.items():
            stack.set_config(key, auto.ConfigValue(value))
        stacks.append(stack)
        return stack

    yield make
    for stack in stacks:
        stack.destroy()


def test_the_gateway_alone_comes_up(example: Callable[..., auto.Stack], namespace: str, api: client.ApiClient) -> None:
    stack = example("gateway", namespace=namespace, image=read_index()["gateway"].reference)
    keys = stack.up().outputs["keys"]
    assert keys.secret
    assert len(set(keys.value.values())) == 2
    deployment = client.AppsV1Api(api).read_namespaced_deployment("gateway", namespace)
    assert deployment.status.available_replicas == 1


def test_the_gpu_pool_alone_gives_its_tenants_their_quotas(
    example: Callable[..., auto.Stack], core: client.CoreV1Api, unique: str
) -> None:
    tenants = {size: f"{unique}-{size}" for size in ("small", "large")}
    outputs = example("gpu-pool", **tenants).up().outputs
    quota = core.list_namespaced_resource_quota(tenants["large"]).items[0]
    assert quota.spec.hard["requests.nvidia.com/mig-3g.40gb"] == "8"
    assert outputs["perNode"].value == {"nvidia.com/mig-1g.10gb": 44, "nvidia.com/mig-3g.40gb": 4}


def test_the_example_of_every_component_previews(example: Callable[..., auto.Stack]) -> None:
    summary = example("components").preview().change_summary
    assert set(summary) == {auto.OpType.CREATE} and summary[auto.OpType.CREATE] > 300


def test_the_plugin_serves_a_program_that_imports_nothing(
    example: Callable[..., auto.Stack], core: client.CoreV1Api, namespace: str
) -> None:
    outputs = example("any-language", namespace=namespace).up().outputs
    stored = core.read_namespaced_secret("from-the-plugin", namespace).data["key"]
    assert outputs["key"].secret
    assert outputs["key"].value == base64.b64decode(stored).decode()


def test_a_program_runs_in_the_virtual_environment_that_it_names(tmp_path: Path, installed_wheel: Path) -> None:
    (tmp_path / "mine").symlink_to(installed_wheel)
    options = {"runtime": {"name": "python", "options": {"virtualenv": "mine"}}}
    (tmp_path / "Pulumi.yaml").write_text(json.dumps({"name": "own", **options}))
    (tmp_path / "other.py").write_text("import random\nVALUE = random.__file__\n")
    program = "import sys, other, pulumi\npulumi.export('prefix', sys.prefix)\npulumi.export('random', other.VALUE)\n"
    (tmp_path / "__main__.py").write_text(program)
    (tmp_path / "state").mkdir()
    options = auto.LocalWorkspaceOptions(env_vars=_environment(tmp_path / "state"))
    stack = auto.create_stack("try", work_dir=str(tmp_path), opts=options)
    outputs = stack.up().outputs
    assert outputs["prefix"].value == str(tmp_path / "mine")
    assert outputs["random"].value == random.__file__, "the stand-ins' folder is not on the program's path"
    (tmp_path / "__main__.py").write_text("raise ValueError('a mistake')\n")
    with pytest.raises(auto.errors.CommandError, match="ValueError: a mistake"):
        stack.preview()


def test_the_schema_in_the_docs_is_the_plugins(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "local.toolchain.shim", "package", "get-schema", str(PLUGIN)]
    result = subprocess.run(program, capture_output=True, text=True, cwd=paths.PROJECT)
    assert result.returncode == 0, result.stderr
    # `tests/unit/test_plugin.py` writes the file; the engine adds fields for languages.
    assert json.loads(SCHEMA.read_text()) == json.loads(result.stdout[result.stdout.index("{") :])
