"""One record per service: no other code contains its name, and records agree with each other and the services."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import catalogue
from components.services.registry import FRONT, GATEWAY, SERVICES, rest_callers, rpc_callers
from local import paths
from local.images.catalogue import IMAGES

sys.path[:0] = [str(paths.PROJECT / "service_images" / "kit" / "src")]

from kit.directory import Scope  # noqa: E402

FOLDERS = ("components", "cli", "local")
RECORDS = paths.PROJECT / "components" / "services"
WORDS = {"router", "user", "prompt", "audit", "portal"}
"""Names that are also common words: only a text equal to the name counts."""
MEANS_SOMETHING_ELSE = {
    ("cli/explain_text.py", "audit"): "a heading",
    ("cli/explain_text.py", "prompt"): "a heading",
    ("cli/local_environment.py", "user"): "a role in a chat",
    ("cli/policy.py", "user"): "a field of the input of OPA",
    ("components/cluster/eks_cluster.py", "audit"): "a log of Kubernetes' API server",
    ("components/cluster/eks_cluster.py", "user"): "a kubeconfig's",
    ("cli/telemetry_volume.py", "user"): "a role in a chat",
    ("components/cluster/namespace.py", "audit"): "a mode of Pod Security Admission",
    ("components/observability/log_collector.py", "audit"): "a mode of Pod Security Admission",
    ("components/security/isolation_check.py", "audit"): "a mode of Pod Security Admission",
    ("components/security/store_settings.py", "audit"): "a device of OpenBao, in its configuration",
    ("components/config/security.py", "portal"): "a client of Keycloak",
    ("components/data/nats.py", "user"): "a field of its configuration",
    ("components/config/routing.py", "guardrails"): "the name of a field, which stack files hold",
    ("components/data/kafka_access.py", "user"): "a login",
    ("components/data/nats_accounts.py", "user"): "a login, in NATS' configuration",
    ("components/data/postgres_cluster.py", "user"): "a login",
    ("components/data/rds.py", "user"): "a login",
    ("components/data/registry_guard.py", "router"): "a filter of Envoy",
    ("components/mesh/envoy.py", "router"): "a filter of Envoy",
    ("components/observability/end_to_end.py", "user"): "a role in a chat",
    ("local/node/configs.py", "user"): "a kubeconfig's",
}


def _named(file: Path) -> Iterator[str]:
    text = file.read_text()
    yield from (name for name in SERVICES if name not in WORDS and re.search(rf"\b{name}\b", text))
    constants = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    yield from WORDS & {value for value in constants if isinstance(value, str)}


def test_a_services_name_occurs_in_its_record_only() -> None:
    files = [file for folder in FOLDERS for file in sorted((paths.PROJECT / folder).rglob("*.py"))]
    found = {
        (str(file.relative_to(paths.PROJECT)), name)
        for file in files
        if RECORDS not in file.parents
        for name in _named(file)
    }
    assert found - MEANS_SOMETHING_ELSE.keys() == set(), "derive it from components/services"
    assert MEANS_SOMETHING_ELSE.keys() - found == set(), "the list of other meanings only shrinks"


@pytest.mark.parametrize("name", SERVICES)
def test_a_record_names_services_that_exist_and_no_caller_twice(name: str) -> None:
    record = SERVICES[name]
    assert record.name == name and record.title and record.about
    assert {*record.asks, *record.asks_rest} <= set(SERVICES) - {name}
    assert set(rpc_callers(record)) <= set(SERVICES)
    assert set(rest_callers(record)) <= {*SERVICES, GATEWAY}


def test_no_prefix_bucket_or_place_belongs_to_two_services() -> None:
    records = SERVICES.values()
    for counted in (
        Counter(prefix.path for record in records for prefix in record.prefixes),
        Counter(bucket for record in records for bucket in record.buckets),
        Counter(bucket for record in records for bucket in record.keeps),
        Counter(topic for record in records for topic in record.produces),
        Counter(record.position for record in records),
    ):
        assert [one for one, count in counted.items() if count > 1] == []


def test_objectives_are_shares_and_seconds() -> None:
    for record in SERVICES.values():
        aim = record.objectives
        assert 0.9 <= aim.availability < 1 and 0 < aim.latency_share < 1
        assert aim.latency_seconds is None or 0 < aim.latency_seconds < 60
        assert aim.first_token_seconds is None or aim.first_token_seconds > 0


def test_the_scopes_of_records_are_those_that_keys_can_have() -> None:
    scopes = {scope for record in SERVICES.values() for scope in record.scopes}
    assert scopes == {scope.value for scope in Scope if scope is not Scope.ADMIN}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_an_image_a_part_and_a_version(name: str) -> None:
    record = SERVICES[name]
    folder = IMAGES[record.image].folder
    assert (folder / "Containerfile").is_file()
    assert (folder / "requirements.lock").is_file() == record.wheels
    assert catalogue.image(record.image).version
    part = catalogue.PARTS[name]
    assert (part.title, bool(part.toggle)) == (record.title, record is not FRONT)


def test_a_service_that_was_never_released_has_the_platforms_version(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = catalogue.LOCK_FILE.read_text()
    without = re.sub(rf"(?m)^  {FRONT.image}: .*\n", "", lock, count=1)
    assert without != lock
    monkeypatch.setattr(Path, "read_text", lambda *_: without)
    catalogue._lock.cache_clear()
    try:
        assert catalogue.image(FRONT.image) == catalogue.LockedImage(FRONT.image, catalogue.platform_version(), None)
    finally:
        monkeypatch.undo()
        catalogue._lock.cache_clear()


@pytest.mark.parametrize("name", [name for name, record in SERVICES.items() if record.prefixes])
def test_every_operation_of_a_services_document_reaches_it_through_the_gateway(name: str) -> None:
    """Operators read them as one document with the gateway as its server."""
    owners = {prefix.path: record.name for record in SERVICES.values() for prefix in record.prefixes}
    document = json.loads((paths.PROJECT / "service_images" / name / "openapi.json").read_text())
    for path in document["paths"]:
        below = [prefix for prefix in owners if path == prefix or path.startswith(f"{prefix.rstrip('/')}/")]
        assert owners[max(below, key=len)] == name, path
