"""Accounts that `forge person` makes at a real Keycloak: one-time passwords, second factors, removal."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tasks import realm as task

from cli.accounts import Accounts
from components.config.security import REALM, Keycloak, Passwords, SecondFactor
from components.security import realm
from local.errors import LocalError
from service_images.keycloak_server import Server

pytestmark = [pytest.mark.drill("logins"), pytest.mark.xdist_group("keycloak"), pytest.mark.timeout(1200)]
LENGTH = 30
CONFIG = Keycloak(tenants=("acme",), passwords=Passwords(length=LENGTH), second_factor=SecondFactor.REQUIRED)


@pytest.fixture(scope="module")
def accounts(server: Server) -> Iterator[Accounts]:
    client = task.Keycloak(server.url, "", lambda: server.secret)
    client.log_in()
    task.settle(client, realm.declared(CONFIG, "https://api.example.com").content, lambda _: "p" * 43)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
        yield Accounts(http, server.secret, LENGTH)


@pytest.fixture
def email() -> str:
    return f"ada-{secrets.token_hex(4)}@example.com"


def user(server: Server, email: str) -> dict[str, Any]:
    (found,) = server.admin("GET", f"/{REALM}/users?email={email}&exact=true")
    return server.admin("GET", f"/{REALM}/users/{found['id']}")


def test_a_new_person_chooses_a_password_and_sets_up_a_second_factor(
    accounts: Accounts, server: Server, email: str
) -> None:
    assert accounts.find(email) is None
    password = accounts.make(email.upper())
    made = user(server, email)
    assert set(made["requiredActions"]) == {"UPDATE_PASSWORD", "CONFIGURE_TOTP"}
    assert made["emailVerified"] and len(password) >= LENGTH


def test_all_accounts_are_listed_with_their_groups(accounts: Accounts, server: Server, email: str) -> None:
    accounts.make(email)
    group = server.admin("GET", f"/{REALM}/group-by-path/tenants/acme/editor")
    server.admin("PUT", f"/{REALM}/users/{user(server, email)['id']}/groups/{group['id']}")
    (found,) = [one for one in accounts.all() if one.email == email]
    assert (found.enabled, found.second_factor, found.groups) == (True, False, ("/tenants/acme/editor",))


def test_a_second_account_with_the_address_is_refused(accounts: Accounts, email: str) -> None:
    accounts.make(email)
    with pytest.raises(LocalError, match="HTTP 409"):
        accounts.make(email)


@pytest.mark.parametrize("address", ["", "nobody", "a b@example.com", "nul\x00@example.com"])
def test_an_address_that_is_none_is_refused_with_a_reason(accounts: Accounts, address: str) -> None:
    with pytest.raises(LocalError, match="Keycloak refuses") as refused:
        accounts.make(address)
    assert refused.value.reason
    assert all(one.email != address for one in accounts.all())


def test_a_renewed_password_is_for_one_login_and_unlocks_the_account(
    accounts: Accounts, server: Server, email: str
) -> None:
    first = accounts.make(email)
    account = accounts.find(email)
    assert account is not None
    path = f"/{REALM}/users/{account.id}"
    server.admin("PUT", path, {**user(server, email), "requiredActions": []})
    assert accounts.renew(account) != first
    assert user(server, email)["requiredActions"] == ["UPDATE_PASSWORD"]


def test_a_lost_second_factor_is_replaced_at_the_next_login(accounts: Accounts, server: Server, email: str) -> None:
    accounts.make(email)
    account = accounts.find(email)
    assert account is not None
    path = f"/{REALM}/users/{account.id}"
    before = user(server, email)
    server.admin("PUT", path, {**before, "requiredActions": []})
    accounts.forget_second_factor(account)
    after = user(server, email)
    assert after["requiredActions"] == ["CONFIGURE_TOTP"]
    assert after["email"] == email and after["emailVerified"] and after["enabled"]


def test_the_policy_of_one_time_codes_is_complete(accounts: Accounts, server: Server) -> None:
    realm_now = server.admin("GET", f"/{REALM}")
    policy = [realm_now[f"otpPolicy{name}"] for name in ("Digits", "Period", "LookAheadWindow")]
    assert policy == [6, 30, 1]


def test_a_removed_account_is_gone(accounts: Accounts, email: str) -> None:
    accounts.make(email)
    account = accounts.find(email)
    assert account is not None
    accounts.remove(account)
    assert accounts.find(email) is None


def test_a_wrong_secret_is_refused_with_the_reason(server: Server) -> None:
    with (
        httpx.Client(base_url=server.url, trust_env=False) as http,
        pytest.raises(LocalError, match="HTTP 401") as refused,
    ):
        Accounts(http, "guessed")
    assert "Invalid client" in str(refused.value.reason)
