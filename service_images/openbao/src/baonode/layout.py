"""Files, ports and identity of a node."""

from __future__ import annotations

import os
from pathlib import Path

PORT = 8200
AUDIENCE = "secret-store"
"""Audience of the tokens with which pods log in."""


class Problem(Exception):
    """An error that stops the node. The message contains the problem, its cause and the fix."""


def folder(name: str, default: str) -> Path:
    """A folder; tests override its path in the environment."""
    return Path(os.environ.get(name, default))


def data() -> Path:
    """Volume of the store."""
    return folder("STORE_DATA", "/data")


def storage() -> Path:
    """OpenBao's encrypted storage."""
    return data() / "raft"


def birth() -> Path:
    """Marker file that exists until the first initialization is known to be complete."""
    return data() / "birth-has-not-ended"


def settings() -> Path:
    """OpenBao's configuration."""
    return folder("STORE_SETTINGS", "/etc/secret-store")


def seal_key() -> Path:
    """Key that unseals the store without a KMS."""
    return folder("STORE_SEAL", "/seal") / "key"


def declared() -> Path:
    """Declared content of the store, from the platform's records."""
    return folder("STORE_DECLARED", "/etc/documents") / "secret-store-content.json"


def token() -> Path:
    """The pod's own token for the store."""
    return folder("STORE_TOKEN", "/var/run/secrets/cogniforge/tokens") / AUDIENCE


def password(login: str, system: str) -> str:
    """Password of a login in a data server."""
    return (folder("CREDENTIALS", "/etc/credentials") / login / system).read_text().strip()


def authority() -> str:
    """CA certificate (PEM) of the store."""
    return os.environ.get("STORE_AUTHORITY") or (folder("STORE_TLS", "/etc/tls") / "ca.crt").read_text()


def address() -> str:
    """URL of the store for this process."""
    return os.environ.get("STORE_ADDRESS", f"https://127.0.0.1:{PORT}")


def peers() -> list[str]:
    """URLs of all servers including this one; the first one initializes the store."""
    return os.environ["STORE_PEERS"].split()


def number() -> int:
    """Index of this server among its peers, from the StatefulSet pod's name."""
    return int(os.environ["STORE_NODE"].rpartition("-")[2])
