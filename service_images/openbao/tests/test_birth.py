"""Initialization of a store, and its state after a kill, a restart or a loss."""

from __future__ import annotations

import os
import socket
import stat
import subprocess

import pytest
from bao_server import Store, until
from baonode.client import Client, Refused

from components.security import store_rights


def settle(store: Store, within_s: float = 60) -> float:
    """Start a server, and wait until it is configured."""
    store.start()
    return until(store.settled, within_s, lambda: f"{store.log()}\n{store.log('keep')}")


def operator(store: Store) -> Client:
    return store.client("secret-store-operator", store_rights.OPERATOR)


def put(store: Store, value: str) -> None:
    operator(store).write("kv/data/billing/provider", {"data": {"key": value}})


def got(store: Store) -> str:
    found = store.client("billing").read("kv/data/billing/provider")
    assert found is not None
    return found["data"]["key"]


def test_it_begins_without_a_human_step_and_hands_out_no_root_token(store: Store) -> None:
    settle(store)
    key = store.folder / "seal" / "key"
    assert (stat.S_IMODE(key.stat().st_mode), key.stat().st_size) == (0o600, 32)
    # "hvs." and "s." are prefixes of tokens; the log and the audit log contain their hashes only.
    said = store.log() + store.log("keep")
    assert '"hvs.' not in said
    assert '"s.' not in said
    with pytest.raises(Refused):
        store.client().ask("POST", "sys/generate-root/attempt", {})


def test_after_a_kill_it_unseals_itself_and_keeps_its_data(store: Store) -> None:
    settle(store)
    put(store, "kept")
    store.kill()
    assert settle(store) < 20
    assert got(store) == "kept"


@pytest.mark.parametrize(
    "moment",
    ["creating Raft", "security barrier not initialized", "security barrier initialized", "root token generated"],
)
def test_a_first_start_that_is_killed_is_repeated(store: Store, moment: str) -> None:
    store.start("serve")
    until(lambda: moment in store.log(), why=store.log)
    store.kill()
    settle(store)
    assert "it starts again with empty storage" in store.log()


def test_a_configured_store_is_never_initialized_again(store: Store) -> None:
    settle(store)
    put(store, "kept")
    for _ in range(2):
        store.kill()
        settle(store)
    assert "it starts again with empty storage" not in store.log()
    assert got(store) == "kept"


@pytest.mark.parametrize("content", [None, b"short"])
def test_a_lost_unseal_key_is_not_replaced_and_the_log_lists_the_lost_data(store: Store, content: bytes | None) -> None:
    settle(store)
    store.kill()
    key = store.folder / "seal" / "key"
    key.unlink() if content is None else key.write_bytes(content)
    store.start("serve")
    assert store.running["serve"].wait(20) == 1
    last = store.log().splitlines()[-1]
    for lost in ("kv/", "transit", "snapshot", "backup of the seal volume", "data-secret-store-"):
        assert lost in last
    assert not key.exists() or key.read_bytes() == content


def test_another_key_opens_nothing(store: Store) -> None:
    settle(store)
    put(store, "kept")
    store.kill()
    key = store.folder / "seal" / "key"
    own = key.read_bytes()
    key.write_bytes(os.urandom(32))
    store.start("serve")
    until(lambda: "error" in store.log()[-3000:].lower(), why=store.log)
    store.kill()
    key.write_bytes(own)
    settle(store)
    assert got(store) == "kept"


def test_a_keeper_whose_port_is_taken_ends_with_the_reason(store: Store) -> None:
    port = store.ports[0] + 4
    with socket.create_server(("", port)):
        store.start("keep")
        assert store.running["keep"].wait(20) == 1
    assert f"metrics cannot be served at port {port}: " in store.log("keep")


def active(servers: list[Store]) -> list[Store]:
    return [one for one in servers if "secret_store_active 1" in one.metrics()]


def test_three_servers_begin_once_and_the_loss_of_one_is_survived(three: list[Store]) -> None:
    servers = three
    said = lambda: "\n".join(one.log()[-3000:] + one.log("keep")[-900:] for one in servers)  # noqa: E731
    try:
        for one in reversed(servers):
            one.start()
        until(lambda: servers[0].settled(), 120, said)
        until(lambda: all("secret_store_sealed 0" in one.metrics() for one in servers), 120, said)
        until(lambda: len(_voters(servers[0])) == 3, 60, said)
        put(servers[0], "kept")
        # The active server is killed: another one becomes active and configures the store.
        servers[0].kill()
        until(lambda: [one for one in active(servers[1:]) if one.settled()], 60, said)
        (leader,) = active(servers[1:])
        assert got(leader) == "kept"
        # With an empty volume, it joins the others instead of initializing a second store.
        subprocess.run(["rm", "-rf", str(servers[0].folder / "data")], check=True)
        (servers[0].folder / "data").mkdir()
        servers[0].start()
        until(lambda: "secret_store_sealed 0" in servers[0].metrics(), 120, said)
        assert got(servers[0]) == "kept"
        assert len(active(servers)) == 1
    finally:
        for one in servers:
            one.kill()


def _voters(store: Store) -> list[str]:
    found = operator(store).read("sys/storage/raft/configuration")
    return [one["node_id"] for one in found["config"]["servers"] if one["voter"]] if found else []


def test_a_key_that_should_come_from_a_secret_is_never_made(store: Store) -> None:
    store.environment["STORE_SEAL_MADE_ELSEWHERE"] = "1"
    store.start("serve")
    assert store.running["serve"].wait(20) == 1
    assert "no entry `key`" in store.log()
