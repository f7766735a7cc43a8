"""The declared realm of people, and its differences as `forge drift` shows them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cli import jobs
from cli import realm as shown
from components.config.security import CLIENTS, Keycloak, SecondFactor
from components.security import realm
from local.errors import LocalError

URL = "https://api.example.com"
NAMES = st.lists(st.from_regex(r"[a-z]([a-z0-9]{0,8})", fullmatch=True), unique=True, max_size=4)


def content(**config: Any) -> dict[str, Any]:
    return realm.declared(Keycloak(**config), URL).content


@given(tenants=NAMES, machines=NAMES.map(lambda names: [name for name in names if name not in CLIENTS]))
def test_each_tenant_has_all_roles_and_each_machine_a_secret(tenants: list[str], machines: list[str]) -> None:
    made = content(tenants=tuple(tenants), machines=tuple(machines))
    assert set(made["groups"]) == {f"/tenants/{t}/{role}" for t in tenants for role in realm.TenantRole}
    for name in machines:
        client = made["clients"][name]
        assert client["serviceAccountsEnabled"] and not client["publicClient"]
        assert client["secretOf"] == f"keycloak-{name}"
    json.dumps(made)


def test_no_client_takes_a_password_and_only_named_flows_are_on() -> None:
    clients = content(argo_cd="https://argo.example.com", machines=("reports",))["clients"]
    assert not any(one["directAccessGrantsEnabled"] or one["implicitFlowEnabled"] for one in clients.values())
    device = "oauth2.device.authorization.grant.enabled"
    assert [name for name, one in clients.items() if one["attributes"][device] == "true"] == ["forge"]
    assert {name: one["redirectUris"] for name, one in clients.items() if one["standardFlowEnabled"]} == {
        "portal": [f"{URL}/v1/callback"],
        "argo-cd": ["https://argo.example.com/auth/callback"],
    }
    assert [name for name, one in clients.items() if one["serviceAccountsEnabled"]] == ["reports"]


def test_a_token_for_argo_cd_is_not_for_the_platform() -> None:
    (audience,) = [
        one["config"]["included.client.audience"]
        for one in content(argo_cd="https://argo.example.com")["clients"]["argo-cd"]["protocolMappers"]
        if one["name"] == "audience"
    ]
    assert audience == "argo-cd"


def test_policies_follow_the_configuration() -> None:
    config = {
        "passwords": {"length": 20, "history": 0},
        "attempts": {"failures": 3},
        "sessions": {"hours": 2},
        "second_factor": SecondFactor.OPTIONAL,
    }
    made = content(**config)
    assert made["settings"]["passwordPolicy"] == "length(20) and notUsername and notEmail"
    assert (made["settings"]["bruteForceProtected"], made["settings"]["failureFactor"]) == (True, 3)
    assert made["settings"]["ssoSessionMaxLifespan"] == 7200
    assert made["actions"]["CONFIGURE_TOTP"] == {"enabled": True, "defaultAction": False}
    assert content()["actions"]["CONFIGURE_TOTP"]["defaultAction"]
    assert not made["settings"]["registrationAllowed"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"machines": ("portal",)},
        {"tenants": ("acme", "acme")},
        {"argo_cd": "http://argo.example.com"},
        {"sessions": {"hours": 1, "idle_minutes": 90}},
        {"attempts": {"wait_seconds": 600, "longest_seconds": 60}},
    ],
    ids=["name-of-the-platform", "twice", "no-tls", "idle-beyond-session", "wait-beyond-longest"],
)
def test_wrong_declarations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Keycloak(**wrong)


class Cluster:
    """kubectl of a cluster whose realm differs."""

    def __init__(self, said: list[str], there: bool = True) -> None:
        self.said, self.there, self.made = said, there, list[dict[str, Any]]()

    def __call__(self, command: list[str], *, input: str | None = None, **_: Any) -> SimpleNamespace:
        verb, kind = command[3:5]
        answer = ""
        if verb == "create" and input:
            self.made.append(json.loads(input))
        elif verb == "get" and kind == "jobs":
            meta = {"labels": {"app.kubernetes.io/name": "keycloak-task", "controller-uid": "x"}}
            spec = {"containers": [{"env": [{"name": "ENDPOINT", "value": "x"}]}]}
            jobs = [
                {"metadata": {"creationTimestamp": when}, "spec": {"template": {"metadata": meta, "spec": spec}}}
                for when in ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
            ]
            answer = json.dumps({"items": jobs if self.there else []})
        elif verb == "get":
            answer = json.dumps({"status": {"succeeded": 1}})
        elif verb == "logs":
            answer = f"a warning\nrealm: {json.dumps(self.said)}"
        return SimpleNamespace(returncode=0, stdout=answer, stderr="")


def test_differences_of_the_realm_are_read_from_a_task_that_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ["add role operator", "change client portal; redirectUris: [] -> [1]; secret: (hidden) -> (hidden)"]
    there = Cluster(said)
    monkeypatch.setattr(jobs.subprocess, "run", there)
    assert shown.differences(["kubectl"], "cogniforge") == [
        ("add", "role operator", ()),
        ("change", "client portal", ("redirectUris", "secret")),
    ]
    (job,) = there.made
    template = job["spec"]["template"]
    assert {"name": "ACTION", "value": "show"} in template["spec"]["containers"][0]["env"]
    assert template["metadata"]["labels"] == {"app.kubernetes.io/name": "keycloak-task"}


def test_a_realm_that_was_never_made_cannot_be_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.subprocess, "run", Cluster([], there=False))
    with pytest.raises(LocalError, match="cannot be compared"):
        shown.differences(["kubectl"], "cogniforge")
