"""The realm as code, applied to a real Keycloak with a real PostgreSQL."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tasks import realm as task
from tasks.common import Problem
from tasks.realm_differences import quoted

from components.config.security import Keycloak as Config
from components.security import realm
from service_images.keycloak_server import Server

pytestmark = [pytest.mark.drill("logins"), pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(1200)]
BASE = f"/{realm.REALM}"
SECRETS = {"keycloak-portal": "p" * 43, "keycloak-reports": "r" * 43}
CONFIG = Config(tenants=("acme",), machines=("reports",))


def declared(config: Config = CONFIG) -> dict[str, Any]:
    return copy.deepcopy(realm.declared(config, "https://api.example.com").content)


@pytest.fixture(scope="module")
def client(server: Server) -> task.Keycloak:
    made = task.Keycloak(server.url, "", lambda: server.secret)
    made.log_in()
    return made


Settle = Callable[[dict[str, Any]], list[str]]


@pytest.fixture
def settle(client: task.Keycloak) -> Iterator[Settle]:
    """Bring the realm to a declaration; returns the differences. In the end, the realm is as CONFIG declares it."""

    def apply(wanted: dict[str, Any]) -> list[str]:
        return [str(one) for one in task.settle(client, wanted, SECRETS.__getitem__)]

    apply(declared())
    yield apply
    apply(declared())


def shown(client: task.Keycloak, wanted: dict[str, Any]) -> list[str]:
    return [str(one) for one in task.differences(client, wanted, SECRETS.__getitem__)]


def test_a_second_run_changes_nothing(client: task.Keycloak, settle: Settle) -> None:
    assert shown(client, declared()) == []
    assert settle(declared()) == []


def test_groups_of_tenants_and_all_clients_are_there(server: Server, settle: Settle) -> None:
    (tenants,) = server.admin("GET", f"{BASE}/groups?search=owner&exact=true")
    assert tenants["path"] == "/tenants"
    names = {one["clientId"] for one in server.admin("GET", f"{BASE}/clients")}
    assert {"portal", "gateway", "forge", "reports"} <= names
    assert "operator" in {one["name"] for one in server.admin("GET", f"{BASE}/roles")}


def test_a_changed_setting_is_shown_and_settled(client: task.Keycloak, server: Server, settle: Settle) -> None:
    server.admin("PUT", BASE, {"realm": realm.REALM, "bruteForceProtected": False, "registrationAllowed": True})
    expected = "change realm cogniforge; registrationAllowed: true -> false; bruteForceProtected: false -> true"
    assert shown(client, declared()) == [expected]
    assert server.admin("GET", BASE)["registrationAllowed"]  # it was only shown
    assert settle(declared()) == [expected]
    assert not server.admin("GET", BASE)["registrationAllowed"]


def test_a_changed_client_is_settled_and_its_secret_is_not_shown(
    client: task.Keycloak, server: Server, settle: Settle
) -> None:
    (portal,) = server.admin("GET", f"{BASE}/clients?clientId=portal")
    changed = {**portal, "secret": "guessed", "redirectUris": ["https://evil.example.com/*"]}
    server.admin("PUT", f"{BASE}/clients/{portal['id']}", changed)
    (line,) = shown(client, declared())
    assert line == (
        'change client portal; redirectUris: ["https://evil.example.com/*"] -> '
        '["https://api.example.com/v1/callback"]; '
        "secret: (hidden) -> (hidden)"
    )
    settle(declared())
    (portal,) = server.admin("GET", f"{BASE}/clients?clientId=portal")
    assert (portal["secret"], portal["redirectUris"]) == ("p" * 43, ["https://api.example.com/v1/callback"])


def test_a_changed_claim_is_settled(client: task.Keycloak, server: Server, settle: Settle) -> None:
    (cli,) = server.admin("GET", f"{BASE}/clients?clientId=forge")
    path = f"{BASE}/clients/{cli['id']}/protocol-mappers/models"
    mapper = next(one for one in cli["protocolMappers"] if one["name"] == "audience")
    server.admin("DELETE", f"{path}/{mapper['id']}")
    more = {**mapper, "name": "more", "config": {**mapper["config"], "included.client.audience": "portal"}}
    server.admin("POST", path, {key: value for key, value in more.items() if key != "id"})
    assert sorted(shown(client, declared())) == [
        "add claim audience of client forge",
        "remove claim more of client forge",
    ]
    settle(declared())
    assert shown(client, declared()) == []


def test_what_people_have_made_survives(client: task.Keycloak, server: Server, settle: Settle) -> None:
    server.admin("POST", f"{BASE}/roles", {"name": "auditor"})
    server.admin("POST", f"{BASE}/groups", {"name": "friends"})
    server.admin("POST", f"{BASE}/clients", {"clientId": "wiki"})
    server.admin("POST", f"{BASE}/users", {"username": "zoe", "enabled": True})
    assert shown(client, declared()) == []
    settle(declared(Config()))
    assert server.admin("GET", f"{BASE}/roles/auditor")["name"] == "auditor"
    assert "friends" in {one["name"] for one in server.admin("GET", f"{BASE}/groups")}
    assert server.admin("GET", f"{BASE}/clients?clientId=wiki")
    assert server.admin("GET", f"{BASE}/users?username=zoe")


def test_what_is_not_declared_any_more_is_removed(client: task.Keycloak, server: Server, settle: Settle) -> None:
    removed = settle(declared(Config()))
    assert "remove client reports" in removed and "remove group /tenants/acme" in removed
    assert server.admin("GET", f"{BASE}/clients?clientId=reports") == []


def test_a_group_with_a_group_of_somebody_else_stays(client: task.Keycloak, server: Server, settle: Settle) -> None:
    path = quoted("tenants/acme", "/")
    acme = server.admin("GET", f"{BASE}/group-by-path/{path}")
    made = f"{BASE}/groups/{acme['id']}/children"
    server.admin("POST", made, {"name": "project"})
    settle(declared(Config()))
    assert server.admin("GET", f"{BASE}/group-by-path/tenants/acme/project")["name"] == "project"
    server.admin("DELETE", f"{BASE}/groups/{server.admin('GET', f'{BASE}/group-by-path/tenants/acme/project')['id']}")


@pytest.mark.parametrize(
    ("path", "body"), [("/roles", {"name": "rented"}), ("/clients", {"clientId": "rented"})], ids=["role", "client"]
)
def test_a_thing_of_somebody_else_is_not_taken_over(
    client: task.Keycloak, server: Server, settle: Settle, path: str, body: dict[str, Any]
) -> None:
    server.admin("POST", f"{BASE}{path}", body)
    wanted = declared()
    if path == "/roles":
        wanted["roles"]["rented"] = {"description": ""}
    else:
        wanted["clients"]["rented"] = {"enabled": True}
    with pytest.raises(Problem, match="rented exists and was not made by this task"):
        shown(client, wanted)


def test_another_realm_is_not_taken_over(client: task.Keycloak, server: Server) -> None:
    with pytest.raises(Problem, match="was not made by this task"):
        shown(client, {**declared(), "realm": "master"})


def test_a_new_realm_has_no_user_and_nobody_administers_keycloak_with_a_password(
    client: task.Keycloak, server: Server
) -> None:
    task.settle(client, {**declared(), "realm": "fresh"}, SECRETS.__getitem__)
    assert [one["username"] for one in server.admin("GET", "/fresh/users")] == []
    server.admin("DELETE", "/fresh")
    people = server.admin("GET", "/master/users")
    assert [one["username"] for one in people if not one["username"].startswith("service-account-")] == []


def test_a_wrong_secret_is_named(server: Server) -> None:
    with pytest.raises(Problem, match="does not accept the secret of the client keycloak-admin"):
        task.Keycloak(server.url, "", lambda: "guessed").log_in()
