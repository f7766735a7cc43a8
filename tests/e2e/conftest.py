"""The environment that `forge up` has created, from the view of its users."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client, config
from openai import OpenAI

from cli import local_environment, stack
from components.config.platform import PlatformConfig
from components.data.needs import login_systems
from components.services.registry import SERVICES
from local import paths
from local.node.settings import NodePaths
from local.toolchain import builder
from local.toolchain.tools import ToolName
from tests.e2e.data_client import DataClient, data_client

FORGE = Path(sys.executable).with_name("forge")


def forge(*arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    result = subprocess.run(
        [str(FORGE), *arguments], capture_output=True, text=True, cwd=paths.PROJECT, env={**os.environ, **env}
    )
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="session", autouse=True)
def environment() -> None:
    if not NodePaths().kubeconfig.exists():
        pytest.fail("the local environment is not up; run `make up` (or `make test`, which does)")


@pytest.fixture(scope="session")
def outputs() -> dict[str, Any]:
    found = stack.outputs("local")
    assert found, "the stack has outputs after `forge up`"
    return found


def connected(outputs: dict[str, Any]) -> OpenAI:
    """A client of the environment from its current outputs, since a recreated one has another key and authority."""
    http = httpx.Client(verify=str(local_environment.authority_file()), trust_env=False)
    return OpenAI(base_url=outputs["url"], api_key=outputs["apiKey"], http_client=http, max_retries=0)


@pytest.fixture(scope="session")
def openai_client(outputs: dict[str, Any]) -> OpenAI:
    return connected(outputs)


def client_of(url: str, key: str) -> httpx.Client:
    """A client with this key."""
    authority = str(local_environment.authority_file())
    headers = {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=url, verify=authority, trust_env=False, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def operator() -> Iterator[httpx.Client]:
    """A client of the operator at the gateway."""
    base = connected(stack.outputs("local"))
    with client_of(str(base.base_url).removesuffix("/v1/"), base.api_key) as client:
        yield client


def audit_entries(operator: httpx.Client, tenant: str) -> Iterator[dict[str, Any]]:
    """All audit entries of a tenant, in order."""
    after: int | None = -1
    while after is not None:
        query = {"tenant": tenant, "after": after, "limit": 1000}
        page = operator.get("/v1/audit/events", params=query).raise_for_status().json()
        yield from page["entries"]
        after = page["next"]


@pytest.fixture(scope="session")
def api() -> client.ApiClient:
    return config.new_client_from_config(str(NodePaths().kubeconfig))


@pytest.fixture(scope="session")
def kubectl_on_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `kubectl` for testinfra: the node's own binary answers to that name."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "kubectl").symlink_to(builder.resolve(ToolName.NODE))
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    return folder


@pytest.fixture(scope="module")
def data() -> Iterator[DataClient]:
    """A pod inside the platform with all logins."""
    config = local_config()
    with data_client(sorted(login_systems(config.data, SERVICES)), issued=config.around.issued) as made:
        yield made


@pytest.fixture
def edited_stack() -> Iterator[Path]:
    """The local stack's file, which is restored at the end. Others read it, too.

    Tests write valid configurations only, with `paths.rewrite`.
    """
    file = stack.config_file("local")
    before = file.read_text()
    yield file
    paths.rewrite(file, before)


@contextlib.contextmanager
def environment_with(change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    """The environment with a changed configuration, and as it was at the end. `change` gets the platform's section."""
    file = stack.config_file("local")
    before = file.read_text()
    content = yaml.safe_load(before)
    change(content["config"]["cogniforge:platform"])
    try:
        paths.rewrite(file, yaml.safe_dump(content))
        begun = time.monotonic()
        forge("up")
        print(f"forge up with the change took {time.monotonic() - begun:.0f} s")
        yield
    finally:
        paths.rewrite(file, before)
        forge("up")


@pytest.fixture
def unique_name() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


def local_config() -> PlatformConfig:
    """Inputs of the local environment."""
    return stack.read_config("local")


def read_json(text: str) -> Any:
    return json.loads(text)
