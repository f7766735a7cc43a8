"""The example of a user's own service in the local environment: built, added, used through the gateway, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from kubernetes import client

from local import paths
from local.images import cosign, pipeline
from tests.e2e.conftest import forge
from tests.e2e.test_services import Tenant, tenant_of_own

pytestmark = [pytest.mark.e2e, pytest.mark.drill("own-service"), pytest.mark.timeout(900)]
EXAMPLE = paths.PROJECT / "examples" / "own-service"
SERVICES: dict[str, Any] = yaml.safe_load((EXAMPLE / "services.yaml").read_text())
ROWS = "select question, answer, tenant from notes order by id"


@pytest.fixture
def tenant(operator: httpx.Client) -> Iterator[Tenant]:
    with tenant_of_own(operator) as made:
        yield made


def _rows() -> list[list[str]]:
    """Rows of the service's database."""
    return [line.split("\t") for line in _postgres("notes", ROWS).splitlines()]


def _postgres(database: str, query: str) -> str:
    """Answer to a query of the server's owner."""
    psql = ("psql", "-h", "/run/postgres", "-U", "postgres", "-d", database, "-At", "-F", "\t", "-c", query)
    return forge("kubectl", "-n", "cogniforge", "exec", "postgres-0", "-c", "postgres", "--", *psql).stdout


def test_an_own_service_is_built_added_used_with_a_tenants_key_and_removed(
    edited_stack: Path, operator: httpx.Client, tenant: Tenant, api: client.ApiClient
) -> None:
    before = edited_stack.read_text()
    content = yaml.safe_load(before)
    content["config"]["cogniforge:platform"]["services"] |= SERVICES
    paths.rewrite(edited_stack, yaml.safe_dump(content))
    forge("up")
    try:
        built = pipeline.read_index()["notes"]
        assert cosign.verify(built.reference, cosign.public_key()) is None
        assert "notes" in forge("status").stdout

        made = tenant.http.post("/v1/notes", json={"question": "Why is the sky blue?"})
        assert made.status_code == 201, made.text
        note = made.json()
        assert note["question"] == "Why is the sky blue?" and note["answer"]
        assert tenant.http.get("/v1/notes").json()["notes"] == [note]
        assert [note["question"], note["answer"], tenant.name] in _rows()

        with tenant_of_own(operator) as other:
            assert other.http.get("/v1/notes").json()["notes"] == []
        stranger = {"authorization": "Bearer nobody"}
        assert tenant.http.get("/v1/notes", headers=stranger).status_code == 401
    finally:
        paths.rewrite(edited_stack, before)
        forge("up")
    names = {one.metadata.name for one in client.AppsV1Api(api).list_namespaced_deployment("cogniforge").items}
    assert "notes" not in names
    gone = tenant.http.get("/v1/notes")
    assert gone.status_code == 404, gone.text
    assert _postgres("postgres", "select rolcanlogin from pg_roles where rolname = 'notes'") == "f\n"
    assert made.json()["question"] in str(_rows()), "the database is kept"
