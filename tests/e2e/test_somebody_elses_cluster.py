"""The local node as an existing cluster: images are built here, and pushed to a registry that both can reach."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.e2e.checkout import BUILT_FOR, Checkout, beside

pytestmark = [pytest.mark.drill("elsewhere"), pytest.mark.timeout(1500)]
NAME = "laptop"


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Checkout]:
    """A checkout with an environment of `forge init laptop --on existing --build` without data servers."""
    with beside(tmp_path_factory.mktemp(NAME), NAME, 8449, api) as made:
        yield made


def test_the_platform_comes_up_with_images_of_that_registry(laptop: Checkout, api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod(NAME).items
    images = {container.image for pod in pods for container in pod.spec.containers}
    assert images
    assert all(image.startswith(f"{BUILT_FOR}/") and "@sha256:" in image for image in images)
    assert "not ready" not in laptop.forge("status", "-s", NAME).stdout


def test_a_second_update_changes_nothing(laptop: Checkout) -> None:
    laptop.forge("up", "-s", NAME)
    assert laptop.forge("drift", "-s", NAME).returncode == 0


def test_the_local_environment_keeps_its_own_images(laptop: Checkout, api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod("cogniforge").items
    assert not [c.image for pod in pods for c in pod.spec.containers if c.image.startswith(f"{BUILT_FOR}/")]
