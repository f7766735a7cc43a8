"""The platform for its operator: status, updates, tampering, destroy."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from cli import stack
from components.services.embeddings import MODEL as EMBEDDINGS
from local import paths
from local.images import cosign, pipeline
from local.images.catalogue import IMAGES
from local.node.settings import NodePaths
from local.toolchain import shim
from tests.e2e.conftest import forge
from tests.exclusive import cluster_wide

pytestmark = pytest.mark.e2e
STACK_FILE = paths.PROJECT / "stacks" / "Pulumi.local.yaml"


def test_status_shows_every_part_healthy() -> None:
    text = forge("status").stdout
    for part in ("router", "gateway", "model-demo", "coredns", "kube-apiserver", "etcd"):
        assert part in text
    assert "not ready" not in text
    assert "not running" not in text


def test_doctor_is_content() -> None:
    assert "miss" not in forge("doctor").stdout


def test_logs_show_requests_as_json() -> None:
    lines = [
        line for line in forge("logs", "router", "-n", "200").stdout.splitlines() if '"message": "request"' in line
    ]
    assert lines, "the router has answered requests"
    record = json.loads(lines[-1][lines[-1].index("{") :])
    assert len(record["trace_id"]) == 32


def test_logs_of_an_unknown_process_name_the_known_ones() -> None:
    result = forge("logs", "nothing", "--node", check=False)
    assert result.returncode == 1
    assert "kube-apiserver" in result.stderr


def test_an_update_without_changes_changes_nothing() -> None:
    # Outputs come first; they contain event schemas, in which things are "created", too.
    summary = shim_run("up", "--yes", "--skip-preview", "--stack", "local").rpartition("Resources:")[2]
    assert "unchanged" in summary
    assert not any(word in summary for word in ("created", "updated", "deleted", "replaced"))


def shim_run(*arguments: str, check: bool = True) -> str:
    result = stack.capture(*arguments)
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_plain_pulumi_leaves_the_checkout_as_it_was() -> None:
    before = STACK_FILE.read_text()
    shim_run("preview", "--stack", "local")
    assert STACK_FILE.read_text() == before


def test_plain_pulumi_explains_a_typo_in_the_stack_file(tmp_path: Path) -> None:
    mistaken = tmp_path / STACK_FILE.name
    mistaken.write_text(STACK_FILE.read_text().replace("gateway:", "gatway:"))
    text = shim_run("preview", "--stack", "local", "--config-file", str(mistaken), check=False)
    assert 'did you mean "gateway"' in text
    assert "Traceback" not in text


def test_a_model_and_a_route_are_added_and_removed(edited_stack: Path, openai_client) -> None:
    content = yaml.safe_load(edited_stack.read_text())
    platform = content["config"]["cogniforge:platform"]
    platform["models"].append({"name": "second"})
    platform["routes"] = [{"name": "either", "targets": [{"model": "demo"}, {"model": "second"}]}]
    paths.rewrite(edited_stack, yaml.safe_dump(content))
    forge("up")
    assert {model.id for model in openai_client.models.list()} == {"demo", "second", "either", EMBEDDINGS}
    question = [{"role": "user", "content": "Who are you?"}]
    answers = [openai_client.chat.completions.create(model="either", messages=question).model for _ in range(20)]
    assert set(answers) == {"demo", "second"}
    platform["models"].pop()
    del platform["routes"]
    paths.rewrite(edited_stack, yaml.safe_dump(content))
    forge("up")
    assert {model.id for model in openai_client.models.list()} == {"demo", EMBEDDINGS}


@pytest.fixture
def image_index() -> Iterator[dict]:
    file = pipeline.index_file()
    before = file.read_text()
    yield json.loads(before)
    file.write_text(before)


def test_an_unsigned_image_stops_the_update(image_index: dict) -> None:
    image_index["router"]["digest"] = image_index["kit"]["digest"]
    image_index["router"]["repository"] = image_index["kit"]["repository"]
    pipeline.index_file().write_text(json.dumps(image_index))
    text = shim_run("up", "--yes", "--skip-preview", "--stack", "local", check=False)
    assert "does not match its signature" in text
    assert "Nothing was changed" in text


def test_a_manifest_changed_in_the_registry_stops_the_update(image_index: dict) -> None:
    digest = image_index["router"]["digest"].removeprefix("sha256:")
    blob = NodePaths().root / f"registry/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"
    original = blob.read_bytes()
    blob.write_bytes(original.replace(b"application/vnd.oci.image.config", b"application/vnd.oci.image.c0nfig"))
    try:
        text = shim_run("up", "--yes", "--skip-preview", "--stack", "local", check=False)
    finally:
        blob.write_bytes(original)
    assert "does not match its signature" in text


def test_every_running_image_has_signature_sbom_and_provenance() -> None:
    for name, built in pipeline.read_index().items():
        if name in IMAGES and not IMAGES[name].runs:
            continue
        assert cosign.verify(built.reference, cosign.public_key()) is None, name
        assert cosign.attestation(built.reference, "cyclonedx", cosign.public_key())
        assert cosign.attestation(built.reference, "slsaprovenance1", cosign.public_key())


def test_an_image_that_does_not_start_is_explained_soon(edited_stack: Path, api: client.ApiClient) -> None:
    """A program that does not exist is reported after about 40 s on two cores; a rollout may take ten minutes."""
    apps = client.AppsV1Api(api)
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "router", "command": ["/no-such-program"]}]}}}}
    apps.patch_namespaced_deployment("router", "cogniforge", patch)
    # Change the Router only, since the update waits for every rollout.
    head = "    services:\n"
    content = edited_stack.read_text().replace(head, f"{head}      router: {{resources: {{cpu: 110m}}}}\n")
    paths.rewrite(edited_stack, content)
    started = time.monotonic()
    text = shim_run("up", "--yes", "--skip-preview", "--stack", "local", check=False)
    seconds = time.monotonic() - started
    undo = [{"op": "remove", "path": "/spec/template/spec/containers/0/command"}]
    apps.patch_namespaced_deployment("router", "cogniforge", undo, _content_type="application/json-patch+json")
    assert "no-such-program" in text
    assert seconds < 180


def test_the_environment_recovers_afterwards() -> None:
    assert "The platform is up" in forge("up").stdout


def test_a_change_behind_its_back_is_drift_and_up_mends_it(api: client.ApiClient) -> None:
    assert forge("drift").stdout == "## `local` has not drifted\n"
    apps = client.AppsV1Api(api)
    patch = {"spec": {"template": {"metadata": {"labels": {"app.kubernetes.io/component": "changed"}}}}}
    apps.patch_namespaced_deployment("router", "cogniforge", patch, field_manager="somebody")
    found = forge("drift", check=False)
    assert found.returncode == 2
    assert "local-router" in found.stdout
    forge("up")
    assert forge("drift").returncode == 0


def test_a_new_namespace_is_blocked_before_anything_changes(edited_stack: Path) -> None:
    paths.rewrite(
        edited_stack, edited_stack.read_text().replace("kind: local", "kind: local\n      namespace: elsewhere")
    )
    checked = forge("upgrade-check", check=False)
    assert checked.returncode == 1
    assert "the resource holds all objects and volume claims in it" in checked.stdout
    refused = forge("up", check=False)
    assert refused.returncode == 1
    assert "is blocked" in refused.stderr


def test_an_upgrade_without_changes_is_safe() -> None:
    assert "### Upgrade of `local`: safe" in forge("upgrade-check").stdout


def test_a_lost_passphrase_is_explained(tmp_path: Path) -> None:
    """In a copy of the state: tests that run at the same time need the passphrase."""
    copy = tmp_path / shim.backend_folder().relative_to(paths.state())
    shutil.copytree(shim.backend_folder(), copy)
    result = forge("preview", check=False, COGNIFORGE_HOME=str(tmp_path))
    assert result.returncode == 1
    assert "passphrase of the local Pulumi state is lost" in result.stderr


def test_destroy_leaves_nothing_and_up_brings_it_back(api: client.ApiClient) -> None:
    core = client.CoreV1Api(api)
    with cluster_wide():
        forge("destroy", "--yes")
        with pytest.raises(ApiException) as error:
            core.read_namespace("cogniforge")
        assert error.value.status == 404
        claims = [v.spec.claim_ref for v in core.list_persistent_volume().items]
        assert not [c for c in claims if c and c.namespace == "cogniforge"]
        names = {s.metadata.name for s in client.RbacAuthorizationV1Api(api).list_cluster_role().items}
        assert not [n for n in names if "gateway" in n or "router" in n]
        state = json.loads(shim_run("stack", "export", "--stack", "local"))
        assert not state["deployment"].get("resources")
        assert "The platform is up" in forge("up").stdout
