"""`forge person`, with a gateway that answers according to User's document, and a stand-in of Keycloak's API.

The drill `logins` runs the same accounts against a real Keycloak.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cli import accounts
from cli.accounts import Accounts
from tests.unit.api_double import Gateway
from tests.unit.test_cli_api import TENANT, gateway
from tests.unit.test_cli_output import Run, golden, run

__all__ = ["gateway", "run"]
EMAIL = "ada@example.com"
USER = {"id": "u1", "tenant": "acme", "email": EMAIL, "name": "", "created": "2026-11-26T14:00:00Z"}
USERS = "/admin/realms/cogniforge/users"


class Keycloak:
    """Users by ID."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answer like the operations of the administration API that the command uses."""
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if path.endswith("/token"):
            return httpx.Response(200, json={"access_token": "t"})
        assert request.headers["authorization"] == "Bearer t"
        if path == USERS and request.method == "GET":
            wanted = request.url.params.get("email")
            first, most = int(request.url.params.get("first", 0)), int(request.url.params.get("max", 100))
            found = [one for one in self.users.values() if wanted in (None, one.get("email"))]
            return httpx.Response(200, json=found[first : first + most])
        if path == USERS:
            body = json.loads(request.content)
            self.users[f"k{len(self.users)}"] = {"id": f"k{len(self.users)}", "totp": False, **body}
            return httpx.Response(201)
        if request.method == "GET" and path.rpartition("/")[0] == USERS:
            return httpx.Response(200, json=self.users[path.rpartition("/")[2]])
        if request.method == "PUT" and path.rpartition("/")[0] == USERS:
            self.users[path.rpartition("/")[2]] |= json.loads(request.content)
        if path.endswith("/groups"):
            return httpx.Response(200, json=[{"path": "/tenants/acme/editor"}])
        if path.endswith("/credentials"):
            return httpx.Response(200, json=[{"id": "c1", "type": "password"}, {"id": "c2", "type": "otp"}])
        if request.method == "DELETE" and path.rpartition("/")[0] == USERS:
            del self.users[path.rpartition("/")[2]]
        return httpx.Response(204)


@pytest.fixture
def keycloak(monkeypatch: pytest.MonkeyPatch) -> Keycloak:
    made = Keycloak()

    @contextlib.contextmanager
    def opened(_: str) -> Iterator[Accounts]:
        with httpx.Client(base_url="https://keycloak", transport=httpx.MockTransport(made.handle)) as client:
            yield Accounts(client, "secret", 12)

    monkeypatch.setattr(accounts, "opened", opened)
    return made


@pytest.fixture
def acme(gateway: Gateway) -> Gateway:
    gateway.say("POST /v1/tenants/acme/users", USER, 201)
    gateway.say("GET /v1/tenants/acme/users", [USER])
    gateway.say("GET /v1/tenants", [TENANT])
    for role in ("member", "editor"):
        gateway.say(f"PUT /v1/tenants/acme/users/u1/roles/{role}", None, 204)
    gateway.say("DELETE /v1/tenants/acme/users/u1", None, 204)
    return gateway


def hidden(printed: tuple[int, str, str]) -> tuple[int, str, str]:
    """Without what differs from run to run: the password and the gateway's port."""
    status, out, err = printed
    out = re.sub(r"https://127\.0\.0\.1:\d+", "<url>", out)
    return status, re.sub(r"(one time password +)\S{20}$", r"\1<password>", out, flags=re.MULTILINE), err


def test_a_new_person_gets_a_role_and_a_one_time_password(run: Run, acme: Gateway, keycloak: Keycloak) -> None:
    golden("person-add.txt", hidden(run("person", "add", EMAIL, "--tenant", "acme", "--role", "editor")))
    (made,) = keycloak.users.values()
    (credential,) = made["credentials"]
    assert credential["temporary"] and made["emailVerified"] and made["enabled"]
    assert ("PUT /v1/tenants/acme/users/u1/roles/editor", None) in acme.asked


def test_a_repetition_adds_the_role_and_keeps_the_password(run: Run, acme: Gateway, keycloak: Keycloak) -> None:
    run("person", "add", EMAIL, "--tenant", "acme")
    acme.say("POST /v1/tenants/acme/users", {"error": {"message": "The tenant has a user.", "type": "x"}}, 409)
    golden("person-add-again.txt", hidden(run("person", "add", EMAIL.upper(), "--tenant", "acme", "--role", "editor")))
    assert len(keycloak.users) == 1
    assert not any(call.endswith("reset-password") for call in keycloak.asked)


def test_no_account_is_made_for_a_tenant_that_does_not_exist(run: Run, acme: Gateway, keycloak: Keycloak) -> None:
    refusal = {"error": {"message": "There is no such tenant.", "type": "not_found_error"}}
    acme.say("POST /v1/tenants/nope/users", refusal, 404)
    golden("person-add-no-tenant.txt", run("person", "add", EMAIL, "--tenant", "nope"), 1)
    assert not keycloak.users


def test_all_accounts_are_listed(run: Run, acme: Gateway, keycloak: Keycloak) -> None:
    golden("person-list-none.txt", run("person", "list"))
    keycloak.users = {f"k{n}": {"id": f"k{n}", "email": f"p{n:03}@example.com", "enabled": True} for n in range(250)}
    assert len(json.loads(run("person", "list", "-o", "json")[1])) == 250
    keycloak.users = {"k0": {"id": "k0", "email": EMAIL, "enabled": True, "totp": True}, "k1": {"id": "k1"}}
    golden("person-list.txt", run("person", "list"))


def test_a_new_password_ends_sessions_and_forgets_the_second_factor(
    run: Run, acme: Gateway, keycloak: Keycloak
) -> None:
    run("person", "add", EMAIL, "--tenant", "acme")
    golden("person-password.txt", hidden(run("person", "password", EMAIL, "--second-factor", "--yes")))
    assert f"DELETE {USERS}/k0/credentials/c2" in keycloak.asked
    assert f"DELETE {USERS}/k0/credentials/c1" not in keycloak.asked
    assert keycloak.users["k0"]["requiredActions"] == ["CONFIGURE_TOTP"], "the next login sets up another one"
    assert f"POST {USERS}/k0/logout" in keycloak.asked
    assert "DELETE /admin/realms/cogniforge/attack-detection/brute-force/users/k0" in keycloak.asked


def test_a_removed_person_leaves_all_tenants(run: Run, acme: Gateway, keycloak: Keycloak) -> None:
    run("person", "add", EMAIL, "--tenant", "acme")
    golden("person-remove.txt", run("person", "remove", EMAIL, "--yes"))
    assert not keycloak.users and ("DELETE /v1/tenants/acme/users/u1", None) in acme.asked


@pytest.mark.parametrize("command", ["password", "remove"])
def test_somebody_unknown_is_reported(run: Run, acme: Gateway, keycloak: Keycloak, command: str) -> None:
    golden("person-unknown.txt", run("person", command, "bob@example.com", "--yes"), 1)


@pytest.mark.parametrize("command", ["password", "remove"])
def test_what_ends_sessions_asks_first(run: Run, acme: Gateway, keycloak: Keycloak, command: str) -> None:
    run("person", "add", EMAIL, "--tenant", "acme")
    before = len(keycloak.asked)
    assert run("person", command, EMAIL, answer="n\n")[0] == 1
    assert len(keycloak.asked) == before and len(keycloak.users) == 1


def test_an_environment_without_keycloak_says_what_to_do(run: Run) -> None:
    golden("person-no-keycloak.txt", run("person", "list", "-s", "dev"), 1)
