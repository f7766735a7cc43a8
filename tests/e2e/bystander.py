"""A tenant beside another one that sends arbitrary requests: its data and its work must not be affected."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import hypothesis
from hypothesis import HealthCheck, Phase
from kubernetes import client

from tests.e2e.conftest import audit_entries
from tests.e2e.test_services import Tenant, tenant_of_own
from tests.waiting import until

NAMESPACE = "cogniforge"
FUZZING = hypothesis.settings(
    deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
"""Generated requests are sent once: a failure is found in the list of sent requests, and not shrunk."""


@dataclass
class Bystander:
    """A tenant with some data in every service, which it does not change."""

    tenant: Tenant
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        http = self.tenant.http
        http.post("/v1/prompts", json={"name": "kept", "prompt": "Hello", "labels": ["production"]}).raise_for_status()
        file = http.post("/v1/files", files={"file": ("kept.txt", b"Cats hunt mice.")}).raise_for_status().json()["id"]
        store = http.post("/v1/vector_stores", json={"name": "kept"}).raise_for_status().json()["id"]
        http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file}).raise_for_status()
        self._ingested(store, file)
        user = f"u{secrets.token_hex(4)}@example.com"
        self.ids = {"tenant": self.tenant.name, "file": file, "store": store, "key": self.tenant.id, "user": user}

    def _ingested(self, store: str, file: str) -> None:
        place = f"/v1/vector_stores/{store}/files/{file}"
        until(lambda: self.tenant.http.get(place).json()["status"] == "completed", 120)

    def has(self) -> list[Any]:
        """The tenant's own data."""
        own, places = f"/v1/tenants/{self.tenant.name}", ("", "/users", "/teams", "/keys", "/relations", "/policy")
        paths = [f"{own}{place}" for place in places] + ["/v1/files", "/v1/vector_stores", "/v1/prompts"]
        paths += [f"/v1/files/{self.ids['file']}/content", f"/v1/vector_stores/{self.ids['store']}"]
        answers = [self.tenant.http.get(path) for path in paths]
        return [(answer.status_code, _without_times(answer)) for answer in answers]

    def works(self, operator: httpx.Client) -> None:
        """Check that Billing, Audit, change data capture and ingestion process its next work."""
        tenant = self.tenant
        tenant.ask("after")
        name = f"after-{secrets.token_hex(8)}"
        tenant.http.post("/v1/prompts", json={"name": name, "prompt": "x", "labels": []}).raise_for_status()
        span = {"begin": "2026-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
        query = {"tenant": tenant.name, "aggregation": "SUM", "field": "input_tokens", **span}

        def metered() -> Any:
            return operator.get("/v1/billing/meters", params=query).raise_for_status().json()["values"]

        before = metered()
        tenant.ask("and more")
        until(lambda: metered() != before, 120)
        entries: list[Any] = []

        def audited() -> bool:
            entries[:] = audit_entries(operator, tenant.name)
            return any(name in json.dumps(entry) for entry in entries)

        until(audited, 120, lambda: f"no entry of prompt {name} in Audit; the last of its tenant are {entries[-3:]}")
        answer = tenant.http.post("/v1/files", files={"file": ("after.txt", b"Dogs bark.")}).raise_for_status()
        file, store = answer.json()["id"], self.ids["store"]
        tenant.http.post(f"/v1/vector_stores/{store}/files", json={"file_id": file}).raise_for_status()
        self._ingested(store, file)


def _without_times(answer: httpx.Response) -> Any:
    try:
        found = answer.json()
    except ValueError:
        return answer.text
    if isinstance(found, dict):
        found.pop("last_active_at", None)
    return found


def bystander(operator: httpx.Client) -> Iterator[Bystander]:
    """Create the tenant, and delete it at the end."""
    with tenant_of_own(operator) as tenant:
        yield Bystander(tenant)


def restarts(api: client.ApiClient) -> dict[str, int]:
    """Number of restarts of each container of the platform."""
    pods = client.CoreV1Api(api).list_namespaced_pod(NAMESPACE).items
    return {
        f"{pod.metadata.name}/{status.name}": status.restart_count
        for pod in pods
        for status in pod.status.container_statuses or []
    }
