"""Creates the unseal key on the first start, decides which server initializes the store, and executes OpenBao."""

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
    """Replace this process with the server. Returns only after an error."""
    _forget_unfinished_birth()
    empty = not (layout.storage() / "raft" / "raft.db").exists()
    if os.environ["STORE_SEAL_BY"] == "key":
        _key(empty)
    first = empty and _begins()
    layout.storage().mkdir(mode=0o700, exist_ok=True)
    if first:
        _durable(layout.birth(), b"")
    own = layout.peers()[layout.number()]
    # Raft uses the next port.
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
    """Delete the storage of a server that was killed during its initialization, which has no login to configure it.

    The storage contains only the initial configuration, since services get their roles after the marker is removed.
    """
    if layout.birth().exists():
        print("the first initialization was interrupted; it starts again with empty storage", flush=True)
        shutil.rmtree(layout.storage(), ignore_errors=True)
        layout.birth().unlink()


def _key(empty: bool) -> None:
    """Create the unseal key on its volume together with the store, and never again."""
    file = layout.seal_key()
    if file.exists():
        if (length := file.stat().st_size) != KEY_BYTES:
            raise Problem(f"the unseal key {file} has {length} bytes instead of {KEY_BYTES}. {_LOST}")
        return
    if not empty:
        raise Problem(f"the unseal key {file} is lost. {_LOST}")
    if os.environ.get("STORE_SEAL_MADE_ELSEWHERE"):
        raise Problem(f"the unseal key {file} does not exist: the Secret in the configuration has no entry `key`")
    _durable(file, os.urandom(KEY_BYTES))
    print("created an unseal key", flush=True)


_LOST = (
    "All data in the store is unreadable without this key: all secrets under kv/, all keys of transit (data that they "
    "have encrypted is lost, and their signatures can be verified only with public keys kept elsewhere), and every "
    "snapshot of the store. Restore the key from your backup of the seal volume. Without a backup, delete the volume "
    "of the store (its claim is data-secret-store-<n>): the store then starts empty with a new key, and every secret "
    "must be written again."
)


def _begins() -> bool:
    """Whether this server initializes the store: the first server does, if no other one is initialized.

    A first server that has lost its volume must join the others instead of initializing a second store. Only the
    answers of all peers distinguish the two cases.
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
                f"{', '.join(waiting)} did not answer within {PATIENCE_S:.0f} s. The store is initialized only "
                "after all servers have reported that they are not; check their pods"
            )
        if waiting:
            time.sleep(1)
    return True


def _durable(file: Path, content: bytes) -> None:
    """Write a private file atomically and durably."""
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
