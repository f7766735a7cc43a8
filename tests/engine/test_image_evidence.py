"""Evidence about images in a real registry, signed by real keys: valid evidence, and each kind of violation."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from local.images import cosign, provenance
from local.images.evidence import Claim, Evidence, examine
from tests.registry import serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]
LONGEST = timedelta(days=90)
OCI = "application/vnd.oci.image"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(store: Path) -> Iterator[str]:
    with serving(store) as address:
        yield address


@pytest.fixture(scope="module", autouse=True)
def key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Public key of a state folder for this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COGNIFORGE_HOME", str(tmp_path_factory.mktemp("home")))
        cosign.ensure_key()
        yield cosign.public_key()


@pytest.fixture
def reference(registry: str) -> str:
    """An image that nobody has signed yet."""
    pool, name = urllib3.PoolManager(retries=False), f"{registry}/cogniforge/thing"
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Labels": {"n": secrets.token_hex(8)}}})
    digest = _push(pool, name, config.encode())
    described = {"mediaType": f"{OCI}.config.v1+json", "digest": digest, "size": len(config)}
    manifest = {"schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": described, "layers": []}
    body = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    headers = {"Content-Type": f"{OCI}.manifest.v1+json"}
    url = _url(name, f"manifests/{digest}")
    assert pool.request("PUT", url, body=body, headers=headers).status == 201
    return f"{name}@{digest}"


def _url(name: str, path: str) -> str:
    host, _, repository = name.partition("/")
    return f"http://{host}/v2/{repository}/{path}"


def _push(pool: urllib3.PoolManager, name: str, blob: bytes) -> str:
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    begun = pool.request("POST", _url(name, "blobs/uploads/"))
    there = begun.headers["Location"]
    url = f"{there}{'&' if '?' in there else '?'}digest={digest}"
    headers = {"Content-Type": "application/octet-stream"}
    assert pool.request("PUT", url, body=blob, headers=headers).status == 201
    return digest


def _provenance(finished: datetime, builder: str = provenance.BUILDER) -> str:
    source = {"name": "source", "digest": {"gitCommit": "c0ffee"}, "annotations": {"modified": False}}
    return json.dumps(
        {
            "buildDefinition": {"buildType": provenance.BUILD_TYPE, "resolvedDependencies": [source]},
            "runDetails": {
                "builder": {"id": builder},
                "metadata": {"finishedOn": finished.strftime("%Y-%m-%dT%H:%M:%SZ")},
            },
        }
    )


SBOM = json.dumps(
    {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{"type": "library", "name": "x", "version": "1"}]}
)


def certify(reference: str, *, age_days: int = 1, builder: str = provenance.BUILDER, **instead: dict[str, Any]) -> None:
    """Sign an image and its statements; `instead`: other content of a statement, by type."""
    finished = datetime.now(UTC) - timedelta(days=age_days)
    statements = {"cyclonedx": SBOM, "slsaprovenance1": _provenance(finished, builder)}
    cosign.sign(reference)
    for kind, predicate in statements.items():
        cosign.attest(reference, kind, json.dumps(instead[kind]) if kind in instead else predicate)


def failed(found: Evidence) -> set[Claim]:
    return set(found.failures)


def test_an_sbom_may_describe_a_single_program_without_libraries(reference: str, key: Path) -> None:
    program = {"type": "application", "name": "pause", "version": "1"}
    certify(reference, cyclonedx={"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": program}})
    assert examine(reference, key, LONGEST).failures == {}


def test_a_signed_image_with_its_statements_is_verified(reference: str, key: Path) -> None:
    certify(reference)
    found = examine(reference, key, LONGEST)
    assert found.failures == {}
    assert (found.commit, found.components, found.modified) == ("c0ffee", 1, False)


def test_an_unsigned_image_fails(reference: str, key: Path) -> None:
    found = examine(reference, key, LONGEST)
    assert failed(found) == {Claim.SIGNATURE, Claim.PROVENANCE, Claim.SBOM}
    assert "no signatures found" in found.failures[Claim.SIGNATURE]


def test_a_signature_without_statements_is_not_enough(reference: str, key: Path) -> None:
    cosign.sign(reference)
    assert failed(examine(reference, key, LONGEST)) == {Claim.PROVENANCE, Claim.SBOM}


def test_another_key_does_not_verify(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(reference)
    monkeypatch.setenv("COGNIFORGE_HOME", str(tmp_path))
    cosign.ensure_key()
    found = examine(reference, cosign.public_key(), LONGEST)
    assert failed(found) == {Claim.SIGNATURE, Claim.PROVENANCE, Claim.SBOM}


def test_content_that_was_changed_in_the_registry_fails(reference: str, key: Path, store: Path) -> None:
    certify(reference)
    digest = reference.partition("@sha256:")[2]
    (blob,) = store.glob(f"blobs/docker/registry/v2/blobs/sha256/*/{digest}/data")
    blob.write_bytes(blob.read_bytes().replace(b'"layers": []', b'"layers":[] '))
    assert Claim.SIGNATURE in failed(examine(reference, key, LONGEST))


def test_an_older_image_than_allowed_fails(reference: str, key: Path) -> None:
    certify(reference, age_days=91)
    found = examine(reference, key, LONGEST)
    assert found.failures == {Claim.AGE: "it was built 91 days ago; the limit is 90 days"}
    assert examine(reference, key, timedelta(days=92)).failures == {}


def test_an_image_of_another_builder_fails(reference: str, key: Path) -> None:
    certify(reference, builder="https://example.com/somebody")
    found = examine(reference, key, LONGEST)
    assert failed(found) == {Claim.PROVENANCE}
    assert "it was built by https://example.com/somebody" in found.failures[Claim.PROVENANCE]


@pytest.mark.parametrize(
    ("kind", "predicate", "claim"),
    [
        ("slsaprovenance1", {"runDetails": {"builder": {"id": provenance.BUILDER}}}, Claim.PROVENANCE),
        ("cyclonedx", {"bomFormat": "CycloneDX", "specVersion": "1.6", "components": []}, Claim.SBOM),
    ],
)
def test_an_empty_signed_statement_fails(
    reference: str, key: Path, kind: str, predicate: dict[str, Any], claim: Claim
) -> None:
    certify(reference, **{kind: predicate})
    assert failed(examine(reference, key, LONGEST)) == {claim}


def test_an_image_that_was_built_again_is_as_old_as_its_last_build(reference: str, key: Path) -> None:
    certify(reference, age_days=200)
    cosign.attest(reference, "slsaprovenance1", _provenance(datetime.now(UTC)))
    assert examine(reference, key, LONGEST).failures == {}
