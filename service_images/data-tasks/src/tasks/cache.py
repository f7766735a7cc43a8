"""Task for the cache: checks that each login can write and read its own keys, and no others.

Logins that the secret store issues exist for pods only. The task checks their rules with a user that it makes and
ends, and ends the users that the store has forgotten.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
import uuid
from typing import Any

import redis

from tasks.common import Problem, endpoint, password, patiently

_SYSTEM = "cache"
_ISSUED = re.compile(r"V_.*_(?P<service>[A-Z0-9-]+)\.CACHE_[A-Z0-9]+_(?P<made>\d+)")
"""Name of an issued user, with the service and the time of its issue (Unix seconds). Source: OpenBao's Valkey plugin,
which writes it in capitals."""
_FORGOTTEN_S = 25 * 3600.0
"""Age of an issued user that no lease can have: a login is renewed for a day at most, and lasts an hour after that."""


def main() -> None:
    """Run the check."""
    for login in os.environ["CHECK_LOGINS"].split():
        _check(login, _client(login, password(login, _SYSTEM)))
    asked: dict[str, Any] = json.loads(os.environ.get("CHECK_ISSUED", "{}"))
    if asked:
        issuer = _client(asked["issuer"], password(asked["issuer"], _SYSTEM))
        _wait(issuer)
        for user in _forgotten(issuer, {service.upper() for service in asked["rules"]}):
            issuer.execute_command("ACL", "DELUSER", user)
            print(f"{user} has no lease any more, and is deleted", flush=True)
        for service, rules in sorted(asked["rules"].items()):
            _check_rules(issuer, service, rules)


def _client(login: str, secret: str) -> redis.Redis:
    return redis.Redis.from_url(endpoint(), username=login, password=secret, socket_timeout=5, socket_connect_timeout=5)


def _wait(client: redis.Redis) -> None:
    patiently("the server does not answer", client.ping, redis.ConnectionError, redis.TimeoutError)


def _check(service: str, client: redis.Redis) -> None:
    """Check that a login reaches the keys of its service only."""
    _wait(client)
    key, token = f"{service}:check:{uuid.uuid4().hex}", uuid.uuid4().bytes
    client.set(key, token, ex=60)
    if client.get(key) != token:
        raise Problem("the value that was read differs from the one that was written")
    try:
        client.get(f"not-{service}:key")
    except redis.exceptions.NoPermissionError:
        return
    raise Problem(f"{service} can read keys of other logins")


def _check_rules(issuer: redis.Redis, service: str, rules: list[str]) -> None:
    """Check the rules of issued logins with a user for this check."""
    user, secret = f"check-{uuid.uuid4().hex}", secrets.token_urlsafe(32)
    issuer.execute_command("ACL", "SETUSER", user, "on", f">{secret}", "resetkeys", "resetchannels", *rules)
    try:
        _check(service, _client(user, secret))
    finally:
        issuer.execute_command("ACL", "DELUSER", user)


def _forgotten(issuer: redis.Redis, services: set[str]) -> list[str]:
    """Issued users whose lease has ended for certain, or whose service is gone."""
    users = [name.decode() if isinstance(name, bytes) else name for name in issuer.execute_command("ACL", "USERS")]
    found = ((user, _ISSUED.fullmatch(user)) for user in users)
    return [
        user
        for user, one in found
        if one and (one["service"] not in services or time.time() - int(one["made"]) > _FORGOTTEN_S)
    ]
