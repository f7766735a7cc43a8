"""Rights of API keys in Audit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from audit.__main__ import AuditSettings, create
from audit_events import event
from kit.directory import Grant
from starlette.testclient import TestClient

OPERATOR, CUSTOMER, OTHER = "operator", "customer", "other"
SCOPES: dict[str, tuple[str, ...]] = {OPERATOR: ("admin",), CUSTOMER: ("audit",), OTHER: ("inference",)}
GRANTS = {key: Grant("acme", key, scopes=scopes) for key, scopes in SCOPES.items()}
EVENTS = "/v1/audit/events"


def as_(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def keyed(settings: AuditSettings, known_keys: Callable[[dict[str, Grant]], dict[str, Any]]) -> Iterator[httpx.Client]:
    more = known_keys(GRANTS)
    with TestClient(create(settings.model_copy(update=more)), raise_server_exceptions=False) as client:
        deadline = time.monotonic() + 5
        while client.get("/v1/audit/key", headers=as_(OPERATOR)).status_code == 401 and time.monotonic() < deadline:
            time.sleep(0.01)
        for tenant in ("acme", "rival"):
            client.post(EVENTS, json=[event(tenant)], headers=as_(OPERATOR)).raise_for_status()
        yield client


@pytest.mark.parametrize("path", ["events?tenant={}", "state?tenant={}&subject=user/1", "tenants/{}/export"])
def test_a_tenant_sees_nothing_of_another(keyed: httpx.Client, path: str) -> None:
    assert keyed.get(f"/v1/audit/{path.format('acme')}", headers=as_(CUSTOMER)).status_code == 200
    assert keyed.get(f"/v1/audit/{path.format('rival')}", headers=as_(CUSTOMER)).status_code == 404
    assert keyed.get(f"/v1/audit/{path.format('acme')}", headers=as_(OTHER)).status_code == 403
    assert keyed.get(f"/v1/audit/{path.format('acme')}").status_code == 401
    assert keyed.get(f"/v1/audit/{path.format('rival')}", headers=as_(OPERATOR)).status_code == 200


@pytest.mark.parametrize("path", ["events", "tenants/acme/shred"])
def test_only_operators_write_and_shred(keyed: httpx.Client, path: str) -> None:
    answer = keyed.post(f"/v1/audit/{path}", json=[event("acme")], headers=as_(CUSTOMER))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("path", ["checkpoint", "key", "events/1/proof", "consistency?old=1&new=2", "tile/0/000.p/2"])
def test_any_key_may_verify_the_log(keyed: httpx.Client, path: str) -> None:
    assert keyed.get(f"/v1/audit/{path}", headers=as_(OTHER)).status_code == 200
    assert keyed.get(f"/v1/audit/{path}").status_code == 401


def test_entries_of_all_tenants_are_for_operators(keyed: httpx.Client) -> None:
    path = "/v1/audit/tile/entries/000.p/2"
    assert keyed.get(path, headers=as_(CUSTOMER)).status_code == 403
    assert keyed.get(path, headers=as_(OPERATOR)).status_code == 200


def test_an_export_holds_no_entry_of_another_tenant(keyed: httpx.Client) -> None:
    lines = keyed.get("/v1/audit/tenants/acme/export", headers=as_(CUSTOMER)).text.splitlines()
    assert [json.loads(line)["event"]["tenant"] for line in lines[1:-1]] == ["acme"]


def test_a_tenant_sees_the_entries_about_its_own_requests(keyed: httpx.Client) -> None:
    about = [
        event(tenant, subject=f"request/{name}") for tenant, name in (("acme", "a"), ("rival", "r"), ("rival", "a"))
    ]
    keyed.post(EVENTS, json=about, headers=as_(OPERATOR)).raise_for_status()

    def seen(key: str, name: str) -> tuple[int, list[str]]:
        answer = keyed.get(f"/v1/audit/requests/{name}", headers=as_(key))
        return answer.status_code, [one["event"]["tenant"] for one in answer.json().get("entries", ())]

    assert seen(CUSTOMER, "a") == (200, ["acme"])
    assert seen(OPERATOR, "a") == (200, ["rival", "acme"])
    assert seen(OTHER, "a") == (403, [])
    others, unknown = (keyed.get(f"/v1/audit/requests/{name}", headers=as_(CUSTOMER)) for name in ("r", "no"))
    assert (others.status_code, others.json()) == (404, unknown.json())
