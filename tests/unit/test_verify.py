"""Which images run, where their digests are recorded, and what is refused before a registry is called."""

from __future__ import annotations

from typing import Any

import pytest

from cli import stack, verify
from cli.verify import Origin
from components import catalogue
from components.catalogue import LockedImage
from components.config.images import ImageSource
from components.config.parse import parse
from components.config.platform import PlatformConfig
from local.images import pipeline
from local.images.evidence import Claim, Evidence
from tests.stack_files import stack_file

DIGEST, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
REPOSITORY = "127.0.0.1:5780/cogniforge/router"
ROUTER = f"{REPOSITORY}@{DIGEST}"


def pod(image: str, namespace: str = "cogniforge", phase: str = "Running", **more: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "main", "image": image}], **more}
    return {"metadata": {"name": "one", "namespace": namespace}, "spec": spec, "status": {"phase": phase}}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> PlatformConfig:
    built = pipeline.Built("router", REPOSITORY, DIGEST, "hash", "buildah", signed=True)
    earlier = pipeline.Built("router", REPOSITORY, OTHER, "before", "buildah", signed=True)
    monkeypatch.setattr(pipeline, "read_index", lambda registry="": {"router": built} if not registry else {})
    monkeypatch.setattr(pipeline, "read_history", lambda registry="": [earlier] if not registry else [])
    return parse(stack_file("local"))


def judged(config: PlatformConfig, *pods: dict[str, Any]) -> dict[str, verify.Running]:
    found = verify.judge("local", config, pods, lambda _: Evidence(components=1))
    return {image.reference: image for image in found.images}


def test_an_image_that_was_built_here_is_examined(config: PlatformConfig) -> None:
    asked: list[str] = []

    def examine(reference: str) -> Evidence:
        asked.append(reference)
        return Evidence()

    found = verify.judge("local", config, [pod(ROUTER), pod(ROUTER)], examine)
    assert asked == [ROUTER]
    assert found.verified and found.images[0].origin is Origin.BUILT


def test_an_earlier_build_that_still_runs_is_known(config: PlatformConfig) -> None:
    assert judged(config, pod(f"{REPOSITORY}@{OTHER}"))[f"{REPOSITORY}@{OTHER}"].origin is Origin.BUILT


def test_init_containers_and_debugging_containers_are_examined(config: PlatformConfig) -> None:
    names = ("initContainers", "ephemeralContainers")
    more = {kind: [{"name": kind, "image": f"evil/{kind.lower()}:1"}] for kind in names}
    found = judged(config, pod(ROUTER, **more))
    assert {r for r, image in found.items() if image.origin is Origin.UNKNOWN} == {
        "evil/initcontainers:1",
        "evil/ephemeralcontainers:1",
    }
    assert found["evil/initcontainers:1"].pods == ["cogniforge/one/initContainers"]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (f"{REPOSITORY}@sha256:{'3' * 64}", "no image with this digest was built on this machine"),
        (f"{REPOSITORY}:latest", "the image is referenced by a tag, which can be moved to other content"),
        (f"elsewhere.example.com/router@{DIGEST}", "no image with this digest was built on this machine"),
    ],
)
def test_an_unknown_digest_in_the_platforms_namespace_fails(config: PlatformConfig, image: str, reason: str) -> None:
    found = judged(config, pod(image))[image]
    assert (found.origin, found.evidence.failures) == (Origin.UNKNOWN, {Claim.DIGEST: reason})


def test_a_foreign_image_in_another_namespace_is_listed_without_failure(config: PlatformConfig) -> None:
    found = judged(config, pod("quay.io/theirs:1", "theirs"))["quay.io/theirs:1"]
    assert (found.origin, found.evidence.failures) == (Origin.FOREIGN, {})


@pytest.mark.parametrize("order", [("theirs", "cogniforge"), ("cogniforge", "theirs")])
def test_a_foreign_image_in_the_platforms_namespace_fails(config: PlatformConfig, order: tuple[str, str]) -> None:
    found = judged(config, *(pod("quay.io/theirs:1", namespace) for namespace in order))
    assert found["quay.io/theirs:1"].origin is Origin.UNKNOWN


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_pods_that_have_ended_run_nothing(config: PlatformConfig, phase: str) -> None:
    assert judged(config, pod("evil:1", phase=phase)) == {}


def test_released_images_are_those_of_the_lock_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "image_names", lambda: ("router",))
    monkeypatch.setattr(catalogue, "image", lambda name: LockedImage(name, "0.1.0", DIGEST, OTHER))
    config = stack.read_config("prod")
    assert config.images.source is ImageSource.REGISTRY
    name = f"{config.images.registry}/router"
    assert verify.known(config) == {f"{name}@{DIGEST}": Origin.LOCKED, f"{name}@{OTHER}": Origin.LOCKED}
    found = judged(config, pod(f"{name}@sha256:{'3' * 64}", config.cluster.namespace))
    (image,) = found.values()
    assert image.evidence.failures == {Claim.DIGEST: "versions.lock.yaml has no such image with this digest"}


@pytest.mark.parametrize("source", ImageSource)
@pytest.mark.parametrize("claim", Claim)
def test_every_failure_has_a_fix(claim: Claim, source: ImageSource) -> None:
    assert "forge" in verify.fix(claim, source)
