"""The local node as if it were somebody else's cluster: images are built here, and pushed where both can reach them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from kubernetes import client

from cli import environment_file
from components.config.cluster import ClusterKind
from components.config.platform import Environment
from local.node import settings
from tests.e2e.test_release import Checkout, _small, current_context, without_data

pytestmark = [pytest.mark.drill("elsewhere"), pytest.mark.timeout(1500)]
NAME, NAMESPACE, REGISTRY = "laptop", "laptop", f"{settings.REGISTRY}/laptop"


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Checkout]:
    """A checkout with an environment as `forge init laptop --on existing --build` writes it, without data servers."""
    made = Checkout(tmp_path_factory.mktemp("laptop"))
    config = environment_file.definition(
        environment_file.Answers(
            NAME,
            ClusterKind.EXISTING,
            Environment.LOCAL,
            registry=REGISTRY,
            context=current_context(),
            port=8449,
            built=True,
        )
    )
    without_data(config)
    _small(config)
    config["cluster"]["namespace"] = NAMESPACE
    file = made.folder / "stacks" / f"Pulumi.{NAME}.yaml"
    file.write_text(yaml.safe_dump({"config": {"cogniforge:platform": config}}))
    try:
        made.forge("up", "-s", NAME)
        yield made
    finally:
        made.forge("destroy", "--yes", "-s", NAME, check=False)
    assert NAMESPACE not in {n.metadata.name for n in client.CoreV1Api(api).list_namespace().items}


def test_the_platform_comes_up_with_images_of_that_registry(laptop: Checkout, api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE).items
    images = {container.image for pod in pods for container in pod.spec.containers}
    assert images
    assert all(image.startswith(f"{REGISTRY}/") and "@sha256:" in image for image in images)
    assert "not ready" not in laptop.forge("status", "-s", NAME).stdout


def test_a_second_update_changes_nothing(laptop: Checkout) -> None:
    laptop.forge("up", "-s", NAME)
    assert laptop.forge("drift", "-s", NAME).returncode == 0


def test_the_local_environment_keeps_its_own_images(laptop: Checkout, api: client.ApiClient) -> None:
    pods = client.CoreV1Api(api).list_namespaced_pod("cogniforge").items
    assert not [c.image for pod in pods for c in pod.spec.containers if c.image.startswith(f"{REGISTRY}/")]
