"""Rotates the services' logins and keys, as the operator. `forge rotate` runs it in the keeper's container.

Each pod looks for a rotation every ten seconds, gets another login, and ends the old one when nothing uses it. What is
left after the longest overlap belongs to no pod, such as to one that was killed, and is ended here.

Logins for PostgreSQL and the cache are leases. Pods register those for NATS as secrets.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from baonode import key_rotation, layout
from baonode.client import Client
from baonode.rotated import Rotated

ROLE = "platform.operator"
OVERLAP_S = 150.0
"""Ten seconds until a pod looks, and two minutes in which a transaction may use the old login, with reserve."""
_EVERY_S = 1.0
_FIRST = "postgres"
"""The system whose roles and counts have no suffix."""
_REGISTERED = ("nats",)
"""Systems for which pods register logins."""


@dataclass(frozen=True)
class _Place:
    """Where the store has what belongs to a secret."""

    logins: str
    """Path that lists the logins."""
    begin: str
    """What the names of the service's logins there begin with."""
    end: tuple[str, str]
    """Method and path of the request that ends a login, without its name."""
    count: str
    """Path of the secret whose versions count the rotations."""


def _place(secret: str) -> _Place:
    """Places of `<system>/<service>`."""
    system, _, service = secret.partition("/")
    suffix = "" if system == _FIRST else f".{system}"
    count = f"{service}/rotation{suffix}"
    if system in _REGISTERED:
        path = f"kv/metadata/logins.{system}"
        return _Place(path, f"{service}.", ("DELETE", path), count)
    path = f"database/creds/{service}{suffix}"
    return _Place(f"sys/leases/lookup/{path}", "", ("POST", f"sys/leases/revoke-prefix/{path}"), count)


def main() -> int:
    """Read what is asked from standard input, and print the state of each secret.

    {"token", "secrets": {login: pods}, "keys": [name], "families": [name], "rotate"}; by default no keys and families
    """
    asked = json.load(sys.stdin)
    client = Client(layout.address(), layout.authority())
    client.login(ROLE, asked["token"])
    keys, families = asked.get("keys", []), asked.get("families", [])
    try:
        if asked["rotate"]:
            found = key_rotation.rotate(client, keys, families, OVERLAP_S) + rotate(client, asked["secrets"])
        else:
            found = [
                *(key_rotation.key_state(client, name) for name in keys),
                *(key_rotation.family_state(client, name) for name in families),
                *(_state(client, name) for name in asked["secrets"]),
            ]
    finally:
        client.logout()
    print(json.dumps([asdict(one) for one in found]))
    return 0


def rotate(client: Client, secrets: dict[str, int], overlap_s: float = OVERLAP_S) -> list[Rotated]:
    """Rotate these secrets, all at the same time. `secrets`: number of ready pods by name.

    A rotation that was killed is repeated: it has left valid logins only. Two at the same time each wait for logins
    that are newer than their own begin.
    """
    old = {name: _logins(client, name) for name in secrets}
    secrets = {name: _expected(name, pods, len(old[name])) for name, pods in secrets.items()}
    for name in secrets:
        client.write(f"kv/data/{_place(name).count}", {"data": {}})
    deadline = time.monotonic() + overlap_s
    waiting = set(secrets)
    while waiting and time.monotonic() < deadline:
        for name in list(waiting):
            there = _logins(client, name)
            if not there & old[name] and len(there) >= secrets[name]:
                waiting.remove(name)
        if waiting:
            time.sleep(_EVERY_S)
    return [_ended(client, name, pods, old[name]) for name, pods in secrets.items()]


def _expected(name: str, pods: int, logins: int) -> int:
    """Number of logins that a rotation waits for. A pod registers a login only if its configuration uses the server."""
    return min(pods, logins) if _place(name).begin else pods


def _ended(client: Client, name: str, pods: int, old: set[str]) -> Rotated:
    """End what is left of the old logins, if every pod has a new one."""
    there, problem, ended = _logins(client, name), "", 0
    if (new := len(there - old)) < pods:
        problem = f"{new} of {pods} pods have a new login; the old logins stay until they expire. See their logs"
    else:
        method, path = _place(name).end
        for login in there & old:
            client.ask(method, f"{path}/{login}")
            ended += 1
    found = _state(client, name)
    found.ended, found.problem = ended, problem
    return found


def _state(client: Client, name: str) -> Rotated:
    kept: dict[str, Any] = client.read(f"kv/metadata/{_place(name).count}") or {}
    rotations = int(kept.get("current_version", 0))
    return Rotated(name, rotations, str(kept.get("updated_time", "")) if rotations else "", len(_logins(client, name)))


def _logins(client: Client, name: str) -> set[str]:
    place = _place(name)
    return {login for login in client.names(place.logins) if login.startswith(place.begin)}
