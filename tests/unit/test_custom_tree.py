"""Resources that the platform registers for a user's own service."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components import secret_files
from components.services.registry import SERVICES
from tests.unit.test_custom_services import DIGEST, EVERYTHING, READER, with_services
from tests.unit.test_platform import registered_of

pytestmark = pytest.mark.xdist_group("tree")
BEGUN = [name for name, record in SERVICES.items() if not record.asked]
"""Services of the local environment."""


class Tree:
    """Resources of an environment with own services."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.resources = registered_of(data)

    def named(self, kind: str, name: str) -> dict[str, Any]:
        (found,) = (
            r.inputs
            for r in self.resources
            if r.typ.endswith(f":{kind}") and (r.inputs.get("metadata") or {}).get("name", r.name) == name
        )
        return found

    def variables(self, name: str) -> dict[str, Any]:
        container = self.named("Deployment", name)["spec"]["template"]["spec"]["containers"][0]
        return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}

    def secrets(self, name: str) -> dict[str, tuple[str, str]]:
        """(Secret, entry) of each file with a secret, by its name."""
        pod = self.named("Deployment", name)["spec"]["template"]["spec"]
        assert secret_files.FOLDER in {one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
        sources = [s for v in pod["volumes"] if v["name"] == secret_files.VOLUME for s in v["projected"]["sources"]]
        return {s["secret"]["items"][0]["path"]: (s["secret"]["name"], s["secret"]["items"][0]["key"]) for s in sources}


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(with_services(notes=EVERYTHING, audit_reader=READER))


def test_the_image_runs_as_it_is_named_and_is_admitted(tree: Tree) -> None:
    assert tree.named("Deployment", "notes")["spec"]["template"]["spec"]["containers"][0]["image"] == DIGEST
    admitted = [
        json.dumps(r.inputs["spec"]["variables"])
        for r in tree.resources
        if r.typ.endswith(":ValidatingAdmissionPolicy") and "variables" in r.inputs["spec"]
    ]
    assert DIGEST in "".join(admitted)


def test_it_learns_where_things_are_under_the_names_that_bundled_services_know(tree: Tree) -> None:
    variables = tree.variables("notes")
    assert variables["SERVICE_ROUTER"] == "router-rpc.cogniforge:9090"
    assert variables["SERVICE_ROUTER_URL"] == "http://router.cogniforge:8080"
    assert variables["SERVICE_USER_URL"] == "http://user.cogniforge:8080"
    assert (
        variables["SERVICE_PORT"] == "8000"
        and variables["SERVICE_TENANTS"] == "true"
        and variables["NOTES_MODEL"] == "demo"
    )
    assert tree.secrets("notes")["NOTES_TOKEN"] == ("notes", "token")
    assert tree.secrets("notes")["SERVICE_POSTGRES_PASSWORD"] == ("login-notes", "postgres")
    bundled = tree.variables("retriever").keys() | tree.variables("prompt").keys()
    shared = ("POSTGRES_HOST", "KAFKA_BOOTSTRAP", "NATS_URL", "CACHE_URL", "OBJECTS_ENDPOINT")
    assert {f"SERVICE_{name}" for name in shared} <= variables.keys()
    assert {name for name in variables if name.startswith("SERVICE_")} - bundled <= {
        "SERVICE_ROUTER_URL",
        "SERVICE_USER_URL",
        "SERVICE_AUDIT_READER",
        "SERVICE_NAME",
        "SERVICE_SCOPES",
        "SERVICE_CALLERS",
        "SERVICE_ISSUER",
    }


def test_only_declared_callers_can_connect(tree: Tree) -> None:
    def peers(name: str, port: str) -> set[str]:
        rules = tree.named("NetworkPolicy", name)["spec"]["ingress"]
        found = [peer for rule in rules if {"port": port} in rule["ports"] for peer in rule["from"]]
        labels = [peer["podSelector"]["matchLabels"].get("app.kubernetes.io/name") for peer in found]
        return {label for label in labels if label in {*SERVICES, "gateway", "notes", "audit-reader"}}

    assert peers("notes", "http") == {"gateway"} and peers("notes", "grpc") == {"audit-reader"}
    assert (
        "notes" in peers("router", "grpc") and "notes" in peers("router", "http") and "notes" in peers("user", "http")
    )
    assert "notes" not in peers("billing", "http")
    assert "cogniforge/notes" in json.loads(tree.variables("router")["SERVICE_CALLERS"])
    assert json.loads(tree.variables("notes")["SERVICE_CALLERS"]) == ["cogniforge/audit-reader"]
    outside = tree.named("NetworkPolicy", "notes-outside")["spec"]["egress"][0]["ports"]
    assert [one["port"] for one in outside] == [443]


def test_its_workload_follows_its_section(tree: Tree) -> None:
    spec = tree.named("Deployment", "notes")["spec"]
    container = spec["template"]["spec"]["containers"][0]
    assert spec["replicas"] == 2 and container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert {one["name"]: one["containerPort"] for one in container["ports"]} == {"http": 8000, "grpc": 9000}
    assert spec["template"]["spec"]["initContainers"][0]["command"] == ["python3", "-m", "notes.tables"]
    assert tree.named("PodDisruptionBudget", "notes")


def test_a_service_without_a_migration_has_no_first_container() -> None:
    section = {**EVERYTHING, "database": {}, "asks": []}
    found = Tree(with_services(notes=section)).named("Deployment", "notes")
    assert "initContainers" not in found["spec"]["template"]["spec"]


def test_the_mesh_admits_the_callers_of_network_policies_and_the_scraper() -> None:
    section = {**EVERYTHING, "asks": []}
    found = Tree(with_services("prod", notes=section))
    allowed = json.dumps(found.named("AuthorizationPolicy", "allow-notes")["spec"])
    assert "sa/gateway" in allowed and "sa/router" not in allowed
    assert '"ports": ["8000"]' in json.dumps(found.named("AuthorizationPolicy", "scrape-notes")["spec"])
    assert "sa/notes" in json.dumps(found.named("AuthorizationPolicy", "allow-router")["spec"])


def _provisioned(tree: Tree, part: str) -> Any:
    """Input of a data task."""
    (job,) = (r for r in tree.resources if r.typ.endswith(":Job") and r.name == f"local-{part}-provision")
    (container,) = job.inputs["spec"]["template"]["spec"]["containers"]
    return json.loads(next(one["value"] for one in container["env"] if one["name"] == "PROVISION"))


def _document(tree: Tree, name: str) -> Any:
    return json.loads(tree.named("ConfigMap", name)["data"]["document.json"])


def test_its_database_and_its_bucket_are_made_for_its_own_login(tree: Tree) -> None:
    databases = {one["name"]: one for one in _provisioned(tree, "postgres")["databases"]}
    assert (databases["notes"]["login"], databases["notes"]["outbox"]) == ("notes", True)
    assert "audit-reader" not in databases
    assert _provisioned(tree, "object-store")["buckets"]["note-files"] == "notes"
    assert tree.named("Secret", "login-notes") and tree.named("Secret", "login-audit-reader")


def test_its_topics_are_created_with_the_rights_of_its_section(tree: Tree) -> None:
    def rights(login: str) -> set[tuple[str, str]]:
        return {(one["name"], one["operation"]) for one in _document(tree, f"kafka-access-{login}")["rights"]}

    assert {_document(tree, f"kafka-topic-{topic}")["name"] for topic in ("note.counted.v1", "note.written.v1")}
    own = rights("notes")
    assert ("note.counted.v1", "WRITE") in own and ("usage.recorded.v1", "READ") in own and ("notes", "READ") in own
    assert ("note.written.v1", "WRITE") not in own and ("note.written.v1", "WRITE") in rights("capture")
    assert ("note.written.v1", "READ") in rights("audit-reader")


def test_it_has_an_account_in_nats_and_a_login_at_the_cache(tree: Tree) -> None:
    secrets = json.dumps([r.inputs for r in tree.resources if r.typ.endswith(":Secret")])
    assert "NOTES" in secrets and "~notes:*" in secrets
    assert "note_limits" in _provisioned(tree, "nats")["buckets"]


def test_its_secrets_are_made_for_it_alone_and_kept(tree: Tree) -> None:
    assert set(tree.named("Secret", "login-notes-keys")["stringData"]["value"]) == {"signing", "sealing"}
    assert tree.secrets("notes")["SERVICE_SIGNING_SECRET"] == ("login-notes-keys", "signing")
    others = [tree.named("Deployment", name) for name in (*BEGUN, "audit-reader")]
    assert "login-notes-keys" not in json.dumps(others, default=str)


def test_a_service_that_reads_no_files_gets_its_secrets_in_variables_on_request(tree: Tree) -> None:
    found = Tree(with_services(notes={**EVERYTHING, "secretsIn": "environment"}, audit_reader=READER))
    variables, pod = found.variables("notes"), found.named("Deployment", "notes")["spec"]["template"]
    held = {
        name: (one["secretKeyRef"]["name"], one["secretKeyRef"]["key"])
        for name, one in variables.items()
        if isinstance(one, dict)
    }
    assert held == tree.secrets("notes") and {"NOTES_TOKEN", "SERVICE_SIGNING_SECRET"} <= held.keys()
    assert secret_files.VOLUME not in {one["name"] for one in pod["spec"]["volumes"]}
    assert pod["metadata"]["annotations"][secret_files.IN_ENVIRONMENT_NOTE] == "environment"
    first = {one["name"] for one in pod["spec"]["initContainers"][0]["env"]}
    assert "SERVICE_POSTGRES_PASSWORD" in first


def test_secrets_that_are_added_later_replace_nothing(tree: Tree) -> None:
    """Another parent would make Pulumi create the Deployment again."""
    section = {**EVERYTHING, "ownSecrets": []}
    before = {(r.typ, r.name) for r in Tree(with_services(notes=section, audit_reader=READER)).resources}
    after = {(r.typ, r.name) for r in tree.resources}
    assert before < after
    added = {kind.rpartition(":")[2] for kind, _ in after - before}
    assert added == {"Logins", "RandomPassword", "Secret"}


def test_the_schemas_of_its_topics_are_registered_besides_the_platforms(tree: Tree) -> None:
    asked = _provisioned(tree, "schema-registry")
    assert asked["platform_events"] is True and list(asked["schemas"]) == ["note.written.v1"]
    assert json.loads(asked["schemas"]["note.written.v1"])["required"] == ["id"]


def test_the_isolation_check_tries_its_ports(tree: Tree) -> None:
    (job,) = (r.inputs for r in tree.resources if r.typ.endswith(":Job") and r.name == "local-isolation")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    tried = json.loads(next(one["value"] for one in container["env"] if one["name"] == "TARGETS"))
    assert tried["notes.cogniforge.svc"] == [8000] and tried["notes-rpc.cogniforge.svc"] == [9000]
