"""The store's content besides secrets follows the declaration, and each service reads its own secrets only."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from bao_server import TASK, Store, ports, until
from baonode import content
from baonode.client import Client, Refused

from components.observability import alerts_security, boards_security
from components.observability.alert import metrics
from components.security import store_rights
from components.services.record import KeyUse
from components.services.registry import SERVICES
from service_images import issuer
from tests.known_metrics import FOREIGN

KEEPER, OPERATOR = "secret-store", "secret-store-operator"
ROLES = {
    **{name: name for name in SERVICES},
    KEEPER: store_rights.KEEPER,
    TASK: store_rights.CHECK,
    OPERATOR: store_rights.OPERATOR,
}
"""Client of an account."""
KEYS = {store_rights.key(name, own): use for name, one in SERVICES.items() for own, use in one.store_keys.items()}
VALUE = "a-secret-that-no-log-may-show"


def operator(store: Store) -> Client:
    return store.client(OPERATOR, store_rights.OPERATOR)


@pytest.fixture(scope="module")
def filled(shared_store: Store) -> Store:
    """A store in which each service has a secret."""
    for service in SERVICES:
        operator(shared_store).write(f"kv/data/{service}/provider", {"data": {"key": f"{VALUE}-{service}"}})
    return shared_store


def settled_again(store: Store) -> None:
    """Restart the keeper, and wait for its next round."""
    store.kill("keep")
    store.start("keep")
    until(store.settled, why=lambda: store.log("keep"))


def can(client: Client, method: str, path: str, body: dict[str, Any] | None = None) -> bool:
    """Whether a request is allowed. Allowed but invalid requests have another status."""
    try:
        client.ask(method, path, body)
    except Refused as refused:
        return refused.status != 403
    return True


def acts(key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All operations on a key, by path."""
    text = base64.b64encode(b"text").decode()
    for act in ("sign", "verify", "encrypt", "decrypt", "rewrap", "hmac", "datakey/plaintext", "export/signing-key"):
        yield f"transit/{act}/{key}", {"input": text, "plaintext": text, "ciphertext": "vault:v1:x", "signature": "x"}
    for act in ("config", "rotate", "trim"):
        yield f"transit/keys/{key}/{act}", {}


def families() -> Iterator[tuple[str, str]]:
    """(service, engine) of all families of keys."""
    for name, one in SERVICES.items():
        for own in one.store_key_families:
            yield name, store_rights.family(name, own)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_reads_its_own_secrets_and_no_others(filled: Store, service: str) -> None:
    client = filled.client(service)
    readable = {other for other in SERVICES if can(client, "GET", f"kv/data/{other}/provider")}
    assert readable == {service}
    assert client.read(f"kv/data/{service}/provider")["data"] == {"key": f"{VALUE}-{service}"}  # type: ignore[index]
    for other in SERVICES:
        path = f"{other}/provider"
        assert not can(client, "POST", f"kv/data/{path}", {"data": {"key": "x"}}), path
        assert not any(can(client, "DELETE", f"kv/{part}/{path}") for part in ("data", "metadata")), path
        assert not can(client, "GET", f"kv/metadata/{other}?list=true"), path
        for act in ("delete", "undelete", "destroy"):
            assert not can(client, "POST", f"kv/{act}/{path}", {"versions": [1]}), path


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_can_use_exactly_the_keys_of_its_record(filled: Store, service: str) -> None:
    client = filled.client(service)
    expected = {KeyUse.SIGN: {"sign", "verify"}, KeyUse.ENCRYPT: {"encrypt", "decrypt", "rewrap"}}
    for key, use in KEYS.items():
        own = key.startswith(f"{service}.")
        allowed = {path for path, body in acts(key) if can(client, "POST", path, body)}
        assert allowed == ({f"transit/{act}/{key}" for act in expected[use]} if own else set()), key
        assert can(client, "GET", f"transit/keys/{key}") == (own and use is KeyUse.SIGN)
        assert not can(client, "POST", f"transit/keys/{service}.another", {"type": use.value})
        assert not can(client, "DELETE", f"transit/keys/{key}")


@pytest.mark.parametrize("role", [*SERVICES, store_rights.CHECK, store_rights.KEEPER, store_rights.OPERATOR])
def test_only_a_service_itself_makes_uses_and_destroys_the_keys_of_its_families(filled: Store, role: str) -> None:
    accounts = {account: found for found, account in ROLES.items()}
    client = filled.client(accounts[role], role)
    text = base64.b64encode(b"text").decode()
    body = {"plaintext": text, "ciphertext": "vault:v1:x", "input": text, "deletion_allowed": True}
    allowed = ("keys/x", "keys/x/config", "keys/x/rotate", "encrypt/x", "decrypt/x")
    for service, engine in families():
        for path in (
            *allowed,
            "rewrap/x",
            "keys/x/trim",
            "keys/x/import",
            "restore/x",
            "hmac/x",
            "datakey/plaintext/x",
        ):
            assert can(client, "POST", f"{engine}/{path}", body) == (role == service and path in allowed), path
        for path in ("export/encryption-key/x", "backup/x", "keys/x"):
            assert not can(client, "GET", f"{engine}/{path}"), path
        assert can(client, "GET", f"{engine}/keys?list=true") == (role == service)
        assert can(client, "DELETE", f"{engine}/keys/x") == (role == service)


@pytest.mark.parametrize("role", [*SERVICES, store_rights.CHECK, store_rights.OPERATOR])
def test_only_the_keeper_changes_rights(filled: Store, role: str) -> None:
    account = {store_rights.CHECK: TASK, store_rights.OPERATOR: OPERATOR}.get(role, role)
    client = filled.client(account, role)
    for path, body in (
        ("sys/policies/acl/more", {"policy": 'path "*" { capabilities = ["read"] }'}),
        (f"sys/policies/acl/{role}", {"policy": 'path "*" { capabilities = ["read"] }'}),
        (f"auth/kubernetes/role/{role}", {"token_policies": [store_rights.KEEPER]}),
        ("auth/kubernetes/config", {"kubernetes_host": "https://elsewhere"}),
        ("auth/token/create", {"policies": [store_rights.KEEPER]}),
        ("auth/token/create-orphan", {}),
        ("identity/group", {"policies": [store_rights.KEEPER]}),
        ("sys/auth/userpass", {"type": "userpass"}),
        ("sys/mounts/more", {"type": "kv"}),
        ("sys/remount", {"from": "kv", "to": "vk"}),
        ("sys/audit/more", {"type": "file"}),
        ("sys/rotate/root", {}),
        ("sys/raw/core/keyring", {}),
    ):
        assert not can(client, "POST", path, body), path
    assert not can(client, "DELETE", "sys/mounts/kv")
    assert can(client, "POST", "sys/step-down") == (role == store_rights.OPERATOR)


@pytest.mark.parametrize("account", [KEEPER, TASK, OPERATOR])
def test_only_a_service_itself_reads_its_secrets(filled: Store, account: str) -> None:
    until(lambda: filled.client().status()["standby"] is False)
    client = filled.client(account, ROLES[account])
    assert not any(can(client, "GET", f"kv/data/{service}/provider") for service in SERVICES)
    allowed = {path for key in KEYS for path, body in acts(key) if can(client, "POST", path, body)}
    assert allowed == ({f"transit/keys/{key}/rotate" for key in KEYS} if account == OPERATOR else set())


def test_an_account_has_no_role_but_its_own(filled: Store) -> None:
    until(lambda: filled.client().status()["standby"] is False)
    entered = set[tuple[str, str]]()
    for account, role in itertools.product([*ROLES, "default"], ROLES.values()):
        with contextlib.suppress(Refused):
            filled.client(account, role)
            entered.add((account, role))
    assert entered == set(ROLES.items())


def test_a_foreign_expired_or_misdirected_token_is_refused(filled: Store) -> None:
    cluster, audience = filled.cluster, store_rights.AUDIENCE
    elsewhere = {"sub": "system:serviceaccount:other:billing"}
    own = {"name": "billing", "uid": "1"}
    other = {**elsewhere, "kubernetes.io": {"namespace": "other", "serviceaccount": own}}
    stranger = issuer.Cluster(filled.folder / "stranger")
    try:
        tokens = {
            "for another audience": cluster.token("billing", "router"),
            "expired": cluster.token("billing", audience, lasts_s=-60),
            "of another namespace": cluster.token("billing", audience, **other),
            "of another cluster": stranger.token("billing", audience),
            "nonsense": "nonsense",
        }
    finally:
        stranger.stop()
    for what, token in tokens.items():
        with pytest.raises(Refused):
            filled.client().login("billing", token)
            pytest.fail(what)
    filled.client("billing")
    cluster.gone.add("billing")
    with pytest.raises(Refused):
        filled.client("billing")
    cluster.gone.clear()


def test_undeclared_content_is_removed_and_logged(filled: Store) -> None:
    keeper = filled.client(KEEPER, store_rights.KEEPER)
    everything = store_rights.policy({"*": ("create", "read", "update", "delete", "list", "sudo")})
    keeper.write("sys/policies/acl/more", {"policy": everything})
    keeper.write("auth/kubernetes/role/more", store_rights.role("more", "default", issuer.NAMESPACE))
    keeper.write("sys/auth/userpass", {"type": "userpass"})
    keeper.write("sys/mounts/hidden", {"type": "kv"})
    keeper.write("sys/policies/acl/billing", {"policy": everything})
    keeper.write("auth/kubernetes/role/prompt", {"token_policies": ["prompt", store_rights.KEEPER]})
    # With temporary rights, create a group and an entity with policies.
    root = filled.client("default", "more")
    root.write("identity/group", {"name": "more", "policies": [store_rights.KEEPER], "type": "internal"})
    root.write("identity/entity", {"name": "more", "policies": [store_rights.KEEPER]})
    settled_again(filled)
    said = filled.log("keep")
    for line in (
        "remove: sys/policies/acl/more",
        "remove: auth/kubernetes/role/more",
        "remove: sys/auth/userpass",
        "remove: sys/mounts/hidden",
        "change: sys/policies/acl/billing",
        "change: auth/kubernetes/role/prompt",
        "remove: identity/group/id/",
        "change: identity/entity/id/",
    ):
        assert line in said, line
    assert not can(filled.client("billing"), "GET", "kv/data/prompt/provider")
    assert 'secret_store_settled_total{kind="remove"} 5' in filled.metrics()
    # The token that was issued by the deleted role has lost its policies.
    assert not can(root, "GET", "sys/mounts")


def test_an_engine_of_another_release_is_kept_but_inaccessible(filled: Store) -> None:
    filled.client(KEEPER, store_rights.KEEPER).write("sys/mounts/later", {"type": "kv", "description": content.OURS})
    settled_again(filled)
    assert "undeclared objects that are kept: sys/mounts/later" in filled.log("keep")
    assert "secret_store_kept 1" in filled.metrics()
    assert not any(can(filled.client(one, role), "GET", "later/any") for one, role in ROLES.items())
    filled.client(KEEPER, store_rights.KEEPER).remove("sys/mounts/later")


def test_a_service_that_is_switched_off_loses_its_rights_and_keeps_secrets_and_keys(filled: Store) -> None:
    audit = filled.client("audit")
    text = base64.b64encode(b"an old entry").decode()
    ((_, engine),) = families()
    audit.write(f"{engine}/keys/tenant", {"type": "aes256-gcm96"})
    sealed = audit.ask("POST", f"{engine}/encrypt/tenant", {"plaintext": text})["data"]["ciphertext"]
    filled.declare({name: one for name, one in SERVICES.items() if name != "audit"})
    until(lambda: "remove: auth/kubernetes/role/audit" in filled.log("keep"))
    with pytest.raises(Refused):
        filled.client("audit")
    assert not can(audit, "GET", "kv/data/audit/provider")  # existing tokens lose their rights, too
    filled.declare()
    until(lambda: can(filled.client("audit"), "GET", "kv/data/audit/provider"))
    again = filled.client("audit").ask("POST", f"{engine}/decrypt/tenant", {"ciphertext": sealed})
    assert base64.b64decode(again["data"]["plaintext"]) == b"an old entry"


def test_every_request_is_in_the_log_and_no_secret_is(filled: Store) -> None:
    filled.client("billing").read("kv/data/billing/provider")
    with contextlib.suppress(Refused):
        filled.client("billing").read("kv/data/prompt/provider")
    lines = [json.loads(line) for line in filled.log().splitlines() if '"type":"response"' in line]
    paths = {(line["request"]["path"], bool(line.get("error"))) for line in lines}
    assert {("kv/data/billing/provider", False), ("kv/data/prompt/provider", True)} <= paths
    assert VALUE not in filled.log() + filled.log("keep")


def test_metrics_show_a_sealed_store_at_once(filled: Store) -> None:
    assert "vault_core_unsealed" in filled.metrics()
    operator(filled).ask("POST", "sys/seal")
    until(lambda: "secret_store_sealed 1" in filled.metrics(), 5)
    assert "secret_store_configured" not in filled.metrics()
    filled.kill("serve")
    until(lambda: "secret_store_up 0" in filled.metrics(), 5)
    filled.start("serve")
    until(filled.settled)


def test_it_exports_every_metric_of_alerts_and_panels(filled: Store) -> None:
    asked = [one.expression for one in alerts_security.ALERTS if one.part == alerts_security.PART]
    filled.client("billing").read("kv/data/billing/provider")  # counters appear with the first event
    wanted = set().union(boards_security.SECRET_STORE.metrics, *map(metrics, asked)) - FOREIGN

    def given() -> set[str]:
        return set(re.findall(r"^([a-z_]+)[ {]", filled.metrics(), re.MULTILINE))

    # OpenBao counts some of them, such as leases, every ten seconds only.
    until(lambda: wanted <= given(), why=lambda: str(wanted - given()))


def test_the_check_ends_well_once_all_is_as_declared(filled: Store) -> None:
    (filled.folder / "tokens-of-the-task").mkdir()
    filled.cluster.project(filled.folder / "tokens-of-the-task", TASK, store_rights.AUDIENCE)
    text = (filled.folder / "documents" / "secret-store-content.json").read_text()
    from components.data.document import digest

    own = {
        "STORE_TOKEN": str(filled.folder / "tokens-of-the-task"),
        "DOCUMENTS": digest({"secret-store-content": text}),
    }
    filled.environment |= own
    filled.start("check")
    for name in own:
        del filled.environment[name]
    assert filled.running.pop("check").wait(30) == 0
    assert "matches the declaration" in filled.log("check")


def test_two_that_configure_at_once_and_are_killed_in_between_come_to_the_same_content(store: Store) -> None:
    other = Store(store.folder.parent / "other", store.cluster, ports(1))
    other.environment |= {"STORE_ADDRESS": store.url, "STORE_DATA": str(store.folder / "data")}
    other.environment["STORE_DECLARED"] = str(store.folder / "documents")
    half = {
        name: dataclasses.replace(one, store_keys={}, store_key_families=())
        for name, one in list(SERVICES.items())[::2]
    }
    chance = random.Random(21)
    store.start("serve")
    until(lambda: store.client().status()["initialized"], why=store.log)
    try:
        for turn in range(8):
            store.declare(half if turn % 2 else SERVICES)
            store.start("keep")
            other.start("keep")
            time.sleep(chance.uniform(0.2, 0.6))  # random time of the kill, not a wait for a condition
            store.kill("keep")
            other.kill("keep")
        wanted = store.declare()
        store.start("keep")
        other.start("keep")
        until(lambda: store.settled() and other.metrics(), why=lambda: store.log("keep") + other.log("keep"))
        left = content.differences(store.client(KEEPER, store_rights.KEEPER), wanted)
        assert left == []
    finally:
        other.kill()
