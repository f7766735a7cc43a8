"""The real Pulumi engine with the project's plugins, against the node that `forge up` has started."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pulumi
import pulumi.automation as auto
import pytest
from filelock import FileLock
from kubernetes import client, config
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS

from local import paths
from local.node.settings import NodePaths
from local.providers.server import OWN_CONNECTION
from local.toolchain import builder, shim
from local.toolchain.tools import ToolName
from tests import wheel

Program = Callable[[], None]


@functools.cache
def _command() -> auto.PulumiCommand:
    """The CLI, whose version is read once."""
    _GRPC_CHANNEL_OPTIONS.append(OWN_CONNECTION)  # this process has hundreds of engines, one after another
    folder = builder.resolve(ToolName.PULUMI).parent
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return auto.PulumiCommand()


@functools.cache
def _resident_provider() -> str:
    """A kubernetes stand-in that all engines of this process share: starting one takes longer than most tests.

    It is a child of this process, and ends with it.
    """
    command = [sys.executable, "-m", "local.providers.kubernetes"]
    env = {**os.environ, "KUBECONFIG": str(NodePaths().kubeconfig)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, cwd=paths.PROJECT, text=True)
    assert process.stdout is not None
    atexit.register(process.terminate)
    return f"kubernetes:{process.stdout.readline().strip()}"


class _Later(Mapping[str, Any]):
    """Outputs that are read on demand, since that takes two runs of the CLI."""

    def __init__(self, stack: auto.Stack) -> None:
        self._stack = stack
        self._found: Mapping[str, Any] | None = None

    def _outputs(self) -> Mapping[str, Any]:
        if self._found is None:
            self._found = auto.Stack.outputs(self._stack)
        return self._found

    def __getitem__(self, name: str) -> Any:
        return self._outputs()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs())

    def __len__(self) -> int:
        return len(self._outputs())


class Engine:
    """A stack with an inline program that can change between calls."""

    def __init__(self, folder: Path, name: str = "test", **variables: str) -> None:
        self.folder, self.name = folder, name
        env = shim.environment()
        env |= {
            "PULUMI_BACKEND_URL": f"file://{folder}",
            "PULUMI_CONFIG_PASSPHRASE": "only for this test",
            "KUBECONFIG": str(NodePaths().kubeconfig),
        }
        env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)
        command = _command()
        env["PATH"] = f"{builder.resolve(ToolName.PULUMI).parent}:{env['PATH']}"
        os.environ["PATH"] = env["PATH"]
        if variables:
            env |= variables  # plugins inherit them, so they belong to this engine only
        else:
            env["PULUMI_DEBUG_PROVIDERS"] = _resident_provider()
        self._changes: dict[str, int] = {}
        self.stack = auto.create_stack(
            name,
            "conformance",
            program=lambda: None,
            opts=auto.LocalWorkspaceOptions(
                work_dir=str(folder),
                env_vars=env,
                project_settings=auto.ProjectSettings(name="conformance", runtime="python"),
                pulumi_command=command,
            ),
        )
        # Each is a run of the CLI that few tests need.
        self.stack.outputs = lambda: _Later(self.stack)
        self.stack.info = lambda *_: SimpleNamespace(resource_changes=self._changes)

    def _run(self, operation: str, program: Program | None, **options: Any) -> Any:
        if program is not None:
            self.stack.workspace.program = program
        also = options.pop("on_event", None)

        def on_event(event: Any) -> None:
            if event.summary_event:
                self._changes = {str(op): count for op, count in event.summary_event.resource_changes.items()}
            if also:
                also(event)

        return getattr(self.stack, operation)(on_event=on_event, **options)

    def up(self, program: Program | None = None, **options: Any) -> auto.UpResult:
        """Update; `outputs` of the result holds the exports."""
        return self._run("up", program, **options)

    def failing_up(self, program: Program, **options: Any) -> str:
        """Run an update that must fail. Returns the output for the user."""
        with pytest.raises(auto.errors.CommandError) as failure:
            self.up(program, **options)
        return str(failure.value)

    def preview(self, program: Program | None = None, **options: Any) -> dict[str, str]:
        """Preview of an update: operation by resource name."""
        operations: dict[str, str] = {}

        def on_event(event: Any) -> None:
            if event.resource_pre_event:
                step = event.resource_pre_event.metadata
                operations.setdefault(step.urn.split("::")[-1], step.op.value)

        self._run("preview", program, on_event=on_event, **options)
        return operations

    def refresh(self, program: Program | None = None) -> Counter[str]:
        """Refresh. Returns the counts of changes."""
        result = self._run("refresh", program)
        return Counter(result.summary.resource_changes or {})

    def destroy(self) -> None:
        """Destroy all resources."""
        if self._resources():
            self.stack.destroy()

    def _resources(self) -> list[dict[str, Any]]:
        file = self.folder / ".pulumi" / "stacks" / "conformance" / f"{self.name}.json"
        return json.loads(file.read_text())["checkpoint"]["latest"].get("resources") or []

    def state(self, name: str) -> dict[str, Any]:
        """A resource's entry in the state, as it is on disk."""
        return next(r for r in self._resources() if r["urn"].endswith(f"::{name}"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    running = Engine(tmp_path)
    yield running
    running.destroy()


@pytest.fixture(scope="session")
def api() -> client.ApiClient:
    kubeconfig = NodePaths().kubeconfig
    if not kubeconfig.exists():
        pytest.fail("the local node is not up; run `make up` (or `make test`, which does)")
    return config.new_client_from_config(str(kubeconfig))


@pytest.fixture(scope="session")
def core(api: client.ApiClient) -> client.CoreV1Api:
    return client.CoreV1Api(api)


@pytest.fixture(scope="session")
def namespace(core: client.CoreV1Api) -> Iterator[str]:
    """A namespace of this test run."""
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    core.delete_namespace(name, propagation_policy="Background")


@pytest.fixture(scope="session")
def image() -> str:
    """A local image that runs until it is stopped."""
    from local.images.pipeline import read_index

    return read_index()["pause"].reference


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel of this checkout, created once per run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "wheel"
    with FileLock(f"{folder}.lock"):
        if not (done := folder / "done").exists():
            wheel.install(wheel.build(folder, paths.PROJECT, "--config-settings", "dirty=allow"), folder / "venv")
            done.touch()
    return folder / "venv"


@pytest.fixture
def unique() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def export(**values: Any) -> None:
    for name, value in values.items():
        pulumi.export(name, value)
