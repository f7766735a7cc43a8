"""Where a node has its files, its ports, and who it is among its peers."""

from __future__ import annotations

import os
from pathlib import Path

PORT = 8200
AUDIENCE = "secret-store"
"""Audience of the tokens by which pods log in."""


class Problem(Exception):
    """Something that stops the node; the text says what happened, why, and what to do."""


def folder(name: str, default: str) -> Path:
    """A folder, which a test may have elsewhere."""
    return Path(os.environ.get(name, default))


def data() -> Path:
    """The volume of the store."""
    return folder("STORE_DATA", "/data")


def storage() -> Path:
    """What OpenBao keeps, encrypted."""
    return data() / "raft"


def birth() -> Path:
    """Is there while the first initialization has not been seen to end."""
    return data() / "birth-has-not-ended"


def settings() -> Path:
    """OpenBao's configuration."""
    return folder("STORE_SETTINGS", "/etc/secret-store")


def seal_key() -> Path:
    """The key that unseals the store, where no KMS does."""
    return folder("STORE_SEAL", "/seal") / "key"


def declared() -> Path:
    """What the store is to hold, as the platform's records say."""
    return folder("STORE_DECLARED", "/etc/documents") / "secret-store-content.json"


def token() -> Path:
    """The pod's own token for the store."""
    return folder("STORE_TOKEN", "/var/run/secrets/cogniforge/tokens") / AUDIENCE


def authority() -> str:
    """The certificate (PEM) that vouches for the store's."""
    return os.environ.get("STORE_AUTHORITY") or (folder("STORE_TLS", "/etc/tls") / "ca.crt").read_text()


def address() -> str:
    """URL of the store for this process."""
    return os.environ.get("STORE_ADDRESS", f"https://127.0.0.1:{PORT}")


def peers() -> list[str]:
    """URLs of all servers, this one among them; the one that initializes the store is the first."""
    return os.environ["STORE_PEERS"].split()


def number() -> int:
    """Place of this server among its peers: a pod of a StatefulSet ends with it."""
    return int(os.environ["STORE_NODE"].rpartition("-")[2])
