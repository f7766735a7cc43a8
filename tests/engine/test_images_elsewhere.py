"""Images for an existing cluster: built here, pushed to a registry that both can reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pulumi
import pytest

from components.config.images import Images, ImageSource
from components.delivery import images
from components.delivery.images import ImageError, ImageResolver
from local.images import cosign, pipeline
from local.images.catalogue import ImageName
from local.toolchain import builder
from local.toolchain.tools import TOOLS, ToolName
from tests.registry import serving

pytestmark = pytest.mark.engine
BUILT = [ImageName.INFERENCE_SIM]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("registry")) as address:
        yield f"{address}/mine"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state folder of this module's own."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGNIFORGE_HOME", str(folder))
        patch.setenv(images.INDEX_VARIABLE, str(pipeline.index_file()))
        patch.setenv(images.KEY_VARIABLE, str(cosign.public_key()))
        patch.setenv(images.COSIGN_VARIABLE, str(builder.cached_path(TOOLS[ToolName.COSIGN])))
        yield folder


@pytest.fixture(scope="module")
def built(home: Path, registry: str) -> pipeline.Built:
    return pipeline.build(BUILT, registry=registry)[BUILT[0]]


def test_an_image_is_pushed_there_signed_and_recorded_apart(built: pipeline.Built, registry: str) -> None:
    assert built.repository == f"{registry}/inference-sim"
    assert pipeline.in_registry(built)
    assert built.signed
    assert cosign.verify(built.reference, cosign.public_key()) is None
    assert pipeline.read_index(registry) == {built.name: built}
    assert pipeline.read_index() == {}, "the record of the local node's registry is another one"


def test_it_is_not_built_again(built: pipeline.Built, registry: str) -> None:
    said: list[str] = []
    assert pipeline.build(BUILT, said.append, registry=registry)[BUILT[0]] == built
    assert said == []


def test_the_program_runs_it_from_there_once_its_signature_is_verified(
    built: pipeline.Built, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    verified: list[str] = []
    resolver = ImageResolver(Images(source=ImageSource.LOCAL_BUILD, registry=registry))
    monkeypatch.setattr(pulumi.Output, "from_input", verified.append)
    resolver.reference(built.name)
    assert verified == [built.reference]
    assert resolver.admitted() == [built.reference]


def test_one_of_another_registry_is_not_taken(built: pipeline.Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    for settings in (
        Images(source=ImageSource.LOCAL_BUILD),
        Images(source=ImageSource.LOCAL_BUILD, registry="localhost:1/x"),
    ):
        with pytest.raises(ImageError, match="has not been built"):
            ImageResolver(settings).reference(built.name)


def test_unsigned_images_are_refused(
    built: pipeline.Built, registry: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi.runtime, "is_dry_run", lambda: False)
    forged = dataclasses.replace(built, digest="sha256:" + "0" * 64)
    pipeline._save({built.name: forged}, pipeline.index_file(registry))
    with pytest.raises(ImageError, match="does not match its signature"):
        ImageResolver(Images(source=ImageSource.LOCAL_BUILD, registry=registry)).reference(built.name)
