"""A real Envoy in front of a registry that reports received requests."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from components.data import registry_guard
from service_images.ports import free_port
from tests.envoy_server import serving
from tests.unit.test_envoy_serving import backend  # noqa: F401  # the service that answers with the request

PASSWORD = "of-the-task"


@pytest.fixture(scope="module")
def registry(backend: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:  # noqa: F811
    port = free_port()
    with (
        serving(registry_guard.render(port, backend, PASSWORD), port, tmp_path_factory.mktemp("guard")),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        yield client


PATHS = ["/apis/ccompat/v7/subjects", "/apis/ccompat/v7/config", "/apis/registry/v3/groups/default/artifacts", "/x"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_writing_requires_the_password(registry: httpx.Client, method: str, path: str) -> None:
    assert registry.request(method, path).status_code == 401
    assert registry.request(method, path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert registry.request(method, path, headers={"x-http-method-override": "GET"}).status_code == 401


@pytest.mark.parametrize("path", PATHS)
def test_everybody_reads_and_only_reads(registry: httpx.Client, path: str) -> None:
    answer = registry.get(path, headers={"x-http-method-override": "DELETE"})
    assert answer.json()["path"] == path
    assert "x-http-method-override" not in answer.json()["headers"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_the_task_writes_and_the_registry_does_not_see_its_password(registry: httpx.Client, method: str) -> None:
    answer = registry.request(method, PATHS[0], headers={"authorization": f"Bearer {PASSWORD}"})
    assert answer.status_code == 200
    assert PASSWORD not in answer.text
