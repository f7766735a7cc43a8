"""Task for the cache: checks that each login can write and read its own keys, and no others."""

from __future__ import annotations

import os
import uuid

import redis

from tasks.common import Problem, endpoint, password, patiently


def main() -> None:
    """Run the check."""
    for login in os.environ["CHECK_LOGINS"].split():
        client = redis.Redis.from_url(
            endpoint(), username=login, password=password(login, "cache"), socket_timeout=5, socket_connect_timeout=5
        )
        patiently("the server does not answer", client.ping, redis.ConnectionError, redis.TimeoutError)
        key, token = f"{login}:check:{uuid.uuid4().hex}", uuid.uuid4().bytes
        client.set(key, token, ex=60)
        if client.get(key) != token:
            raise Problem("the value that was read differs from the one that was written")
        try:
            client.get(f"not-{login}:key")
        except redis.exceptions.NoPermissionError:
            continue
        raise Problem(f"{login} can read keys of other logins")
