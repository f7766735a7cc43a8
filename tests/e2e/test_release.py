"""The path of a release: pushed, locked, deployed to dev, promoted to staging and to prod.

AWS is simulated; its clusters answer at the local node, where every pod runs for real from the pushed images.
A copy of the project is released, as a team's own checkout would be: the lock file of this one stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from kubernetes import client

from local.images import cosign
from local.images.catalogue import IMAGES, LOCAL, ImageName
from local.node import settings
from tests.e2e.checkout import Checkout, current_context, small, without_data
from tests.engine.definitions import installed

pytestmark = pytest.mark.drill("release")
REGISTRY = f"{settings.REGISTRY}/released"
RELEASED = [name for name in LOCAL if IMAGES[name].runs and name is not ImageName.PAUSE]


def _dev(config: dict[str, Any]) -> None:
    config["images"]["registry"] = REGISTRY
    config["cluster"]["namespace"] = "platform-dev"
    without_data(config)
    small(config)


def _adopted(environment: str, port: int) -> Callable[[dict[str, Any]], None]:
    """An existing cluster: a second simulated one would be the same node with the same objects."""

    def change(config: dict[str, Any]) -> None:
        config["images"]["registry"] = REGISTRY
        config["cluster"] = {"kind": "existing", "context": current_context(), "namespace": f"platform-{environment}"}
        # Kong is installed from a chart, which a simulated cluster only records.
        config["gateway"] |= {"engine": "envoy", "port": port, "replicas": 2}
        config["mesh"] = {"mode": "off"}
        without_data(config)
        small(config)
        config["models"] = config["models"][:1]

    return change


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, api: client.ApiClient) -> Iterator[Checkout]:
    made = Checkout(tmp_path_factory.mktemp("release"))
    made.edit("dev", _dev)
    made.edit("staging", _adopted("staging", 8444))
    made.edit("prod", _adopted("prod", 8445))
    with installed(api, "karpenter/*"):
        yield made
        with ThreadPoolExecutor(3) as pool:
            stacks = ("prod", "staging", "dev")
            list(pool.map(lambda stack: made.forge("destroy", "--yes", "-s", stack, check=False), stacks))
        core = client.CoreV1Api(api)
        left = {n.metadata.name for n in core.list_namespace().items} & {
            f"platform-{e}" for e in ("dev", "staging", "prod")
        }
    for name in left:
        core.delete_namespace(name)


def test_an_incompatible_event_fails_the_preview(checkout: Checkout) -> None:
    file = checkout.folder / "service_images/kit/src/kit/events/prompt.changed.v1.json"
    before = file.read_text()
    schema = json.loads(before)
    schema["required"].append("colour")
    file.write_text(json.dumps(schema))
    result = checkout.forge("preview", "-s", "dev", check=False)
    file.write_text(before)
    assert result.returncode == 1
    said = result.stdout + result.stderr
    assert "data.colour was optional or unknown, and is required" in " ".join(said.split()) and "Traceback" not in said


def test_an_unreleased_platform_is_not_deployed(checkout: Checkout) -> None:
    result = checkout.forge("up", "-s", "dev", check=False)
    assert result.returncode == 1
    assert "is not released" in result.stdout + result.stderr


def test_a_release_pushes_verifies_and_locks(checkout: Checkout) -> None:
    printed = checkout.forge("release", REGISTRY).stdout.splitlines()
    references = [line for line in printed if line.startswith(REGISTRY)]
    assert [r.partition("@")[0] for r in references] == [f"{REGISTRY}/{n}" for n in RELEASED]
    locked = yaml.safe_load(checkout.lock.read_text())["images"]
    for reference in references:
        name = reference.removeprefix(f"{REGISTRY}/").partition("@")[0]
        assert locked[name]["digest"] == reference.partition("@")[2]
        assert cosign.verify(reference, cosign.public_key()) is None
        assert cosign.attestation(reference, "slsaprovenance1", cosign.public_key())


def test_a_release_again_changes_nothing(checkout: Checkout) -> None:
    before = checkout.lock.read_text()
    checkout.forge("release", REGISTRY)
    assert checkout.lock.read_text() == before


def test_a_version_with_other_content_is_refused(checkout: Checkout) -> None:
    before = checkout.lock.read_text()
    digest = yaml.safe_load(before)["images"]["router"]["digest"]
    checkout.lock.write_text(before.replace(digest, f"sha256:{'0' * 64}"))
    result = checkout.forge("release", REGISTRY, check=False)
    checkout.lock.write_text(before)
    assert result.returncode == 1
    assert '"router" 0.1.0 is released already, with other content' in result.stderr


def test_the_release_comes_up_in_dev(checkout: Checkout, api: client.ApiClient) -> None:
    checkout.forge("up", "-s", "dev")
    pods = client.CoreV1Api(api).list_namespaced_pod("platform-dev").items
    running = {c.image for p in pods for c in p.spec.containers}
    assert all(image.startswith(f"{REGISTRY}/") and "@sha256:" in image for image in running)


def test_a_release_that_has_not_soaked_is_not_promoted(checkout: Checkout) -> None:
    result = checkout.forge("promote", "dev", "--soak", "600", check=False)
    assert result.returncode == 1
    assert "fail soaked" in result.stdout


def test_a_healthy_dev_is_promoted_to_staging(checkout: Checkout, api: client.ApiClient) -> None:
    result = checkout.forge("promote", "dev", "--soak", "0")
    assert "fail " not in result.stdout
    deployments = client.AppsV1Api(api).list_namespaced_deployment("platform-staging").items
    assert {d.metadata.name for d in deployments} >= {"router", "gateway", "model-demo"}
    assert all(d.status.ready_replicas == d.spec.replicas for d in deployments)


def test_a_healthy_staging_is_promoted_to_prod(checkout: Checkout, api: client.ApiClient) -> None:
    result = checkout.forge("promote", "staging", "--soak", "0")
    assert "fail " not in result.stdout
    deployments = {d.metadata.name: d for d in client.AppsV1Api(api).list_namespaced_deployment("platform-prod").items}
    assert {"router", "gateway", "model-demo"} <= deployments.keys()
    assert all(d.status.ready_replicas == d.spec.replicas >= 2 for d in deployments.values())


def test_an_unhealthy_environment_is_not_promoted(checkout: Checkout, api: client.ApiClient) -> None:
    apps = client.AppsV1Api(api)
    apps.patch_namespaced_deployment_scale("router", "platform-dev", {"spec": {"replicas": 0}})
    result = checkout.forge("promote", "dev", "--soak", "0", check=False)
    assert result.returncode == 1
    assert "fail healthy" in result.stdout or "fail no drift" in result.stdout
