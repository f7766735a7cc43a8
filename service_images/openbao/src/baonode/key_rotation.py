"""Rotates services' own keys, as the operator: a key gets another version, and earlier versions stay usable.

The store rotates a single key here. The keys of a family, such as one for each tenant, are rotated by the service
once the count of its rotations rises, because what they encrypt is in the service's database. It counts, too, once all
have a new version.
"""

from __future__ import annotations

import time
from typing import Any

from baonode.client import Client
from baonode.rotated import Rotated

_EVERY_S = 1.0
_FIRST = 1
"""Version of a key that was never rotated."""


def rotate(client: Client, keys: list[str], families: list[str], patience_s: float) -> list[Rotated]:
    """Rotate keys and families, each `<service>/<name>`. A rotation that was killed can be repeated.

    `patience_s`: longest time to wait until the services have rotated all keys of their families.
    """
    for name in keys:
        client.write(f"transit/keys/{_dotted(name)}/rotate", {})
    for name in families:
        client.write(f"kv/data/{_count(name, 'rotation')}", {"data": {}})
    deadline = time.monotonic() + patience_s
    while any(family_state(client, name).problem for name in families) and time.monotonic() < deadline:
        time.sleep(_EVERY_S)
    return [*(key_state(client, name) for name in keys), *(family_state(client, name) for name in families)]


def key_state(client: Client, name: str) -> Rotated:
    """State of a key."""
    versions = client.read(f"transit/keys/{_dotted(name)}") or {}
    newest = str(versions.get("latest_version", _FIRST))
    made = versions.get("keys", {}).get(newest, {})
    at = str(made.get("creation_time", "")) if int(newest) > _FIRST else ""
    return Rotated(name, int(newest) - _FIRST, at)


def family_state(client: Client, name: str) -> Rotated:
    """State of a family."""
    asked: dict[str, Any] = client.read(f"kv/metadata/{_count(name, 'rotation')}") or {}
    done: dict[str, Any] = client.read(f"kv/metadata/{_count(name, 'rotated')}") or {}
    rotations = int(asked.get("current_version", 0))
    found = Rotated(name, rotations, str(asked.get("updated_time", "")) if rotations else "")
    if int(done.get("current_version", 0)) < rotations:
        found.problem = "not all keys have a new version yet; the service continues. See its log"
    return found


def _dotted(name: str) -> str:
    return name.replace("/", ".")


def _count(name: str, what: str) -> str:
    """Path of a secret whose versions count the rotations of a family that were asked for, or that are done."""
    service, _, family = name.partition("/")
    return f"{service}/{what}.{family}"
