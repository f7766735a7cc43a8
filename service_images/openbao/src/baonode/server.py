"""Makes the unseal key the first time, decides who initializes the store, and becomes OpenBao."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from baonode import layout
from baonode.client import Client, Refused, Unreachable
from baonode.layout import Problem

KEY_BYTES = 32
PATIENCE_S = 300.0
PROGRAM = "bao"


def main() -> int:
    """Never returns when all is well: the process becomes the server."""
    _forget_unfinished_birth()
    empty = not (layout.storage() / "raft" / "raft.db").exists()
    if os.environ["STORE_SEAL_BY"] == "key":
        _key(empty)
    first = empty and _begins()
    layout.storage().mkdir(mode=0o700, exist_ok=True)
    if first:
        _durable(layout.birth(), b"")
    own = layout.peers()[layout.number()]
    # Raft's own port is the next one.
    host, _, port = own.rpartition(":")
    environment = {
        **os.environ,
        "BAO_RAFT_NODE_ID": os.environ["STORE_NODE"],
        "BAO_API_ADDR": own,
        "BAO_CLUSTER_ADDR": f"{host}:{int(port) + 1}",
    }
    settings = layout.settings() / ("first.hcl" if first else "store.hcl")
    os.execvpe(PROGRAM, [PROGRAM, "server", f"-config={settings}"], environment)


def _forget_unfinished_birth() -> None:
    """A server that was killed while it initialized itself has no login: nobody could ever use or repair the store.

    Nothing is in it yet but what the configuration says: services get their roles only after the mark is gone.
    """
    if layout.birth().exists():
        print("the first initialization did not end; it begins anew, on empty storage", flush=True)
        shutil.rmtree(layout.storage(), ignore_errors=True)
        layout.birth().unlink()


def _key(empty: bool) -> None:
    """The unseal key on its volume, made together with the store and never again."""
    file = layout.seal_key()
    if file.exists():
        if (length := file.stat().st_size) != KEY_BYTES:
            raise Problem(f"the unseal key {file} has {length} bytes in place of {KEY_BYTES}. {_LOST}")
        return
    if not empty:
        raise Problem(f"the unseal key {file} is lost. {_LOST}")
    if os.environ.get("STORE_SEAL_MADE_ELSEWHERE"):
        raise Problem(f"there is no unseal key at {file}: the Secret that the configuration names has no entry `key`")
    _durable(file, os.urandom(KEY_BYTES))
    print("made an unseal key", flush=True)


_LOST = (
    "Nothing that the store holds can be read without that key: all secrets below kv/, all keys of transit (whatever "
    "they encrypted is lost, and what they signed can be verified only with public keys kept elsewhere), and every "
    "snapshot of the store. Put the key back from your backup of the seal volume. If there is none, remove the volume "
    "of the store (its claim is data-secret-store-<n>): the store then begins empty, with a new key, and every secret "
    "has to be written again."
)


def _begins() -> bool:
    """Whether this server initializes the store: the first one does, when no other server has a store already.

    A first server that has lost its volume must join the others and not begin a second store beside theirs. Only an
    answer of every peer shows which of both it is.
    """
    if layout.number() != 0:
        return False
    waiting = [peer for number, peer in enumerate(layout.peers()) if number != 0]
    deadline = time.monotonic() + PATIENCE_S
    while waiting:
        for peer in list(waiting):
            try:
                if Client(peer, layout.authority()).status()["initialized"]:
                    return False
            except (Unreachable, Refused):
                continue
            waiting.remove(peer)
        if time.monotonic() > deadline:
            raise Problem(
                f"{', '.join(waiting)} did not answer within {PATIENCE_S:.0f} s. The store begins only when all "
                "servers have said that they have none; see why their pods do not run"
            )
        if waiting:
            time.sleep(1)
    return True


def _durable(file: Path, content: bytes) -> None:
    """Write a private file so that it is whole after a crash, or not there."""
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    new.rename(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
