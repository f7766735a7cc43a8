"""Task for change data capture: creates a connector per outbox, and waits until all are running."""

from __future__ import annotations

from typing import Any

import httpx

from tasks.common import Problem, endpoint, password, patiently, wanted

LOGIN = "connect"


class NotYet(Exception):
    """A connector is not running yet."""


def main() -> None:
    """Run the task."""
    asked: dict[str, dict[str, str]] = wanted()["connectors"]
    login = (LOGIN, password(LOGIN, LOGIN))
    with httpx.Client(base_url=endpoint(), auth=login, timeout=30, trust_env=False) as client:
        there = patiently("Connect does not answer", lambda: _connectors(client), httpx.HTTPError)
        for name in set(there) - set(asked):
            client.delete(f"/connectors/{name}").raise_for_status()
        for name, config in asked.items():
            patiently(f"{name} is not accepted", lambda n=name, c=config: _put(client, n, c), NotYet, httpx.HTTPError)
        for name in asked:
            patiently(f"{name} is not running", lambda n=name: _running(client, n), NotYet, httpx.HTTPError)


def _connectors(client: httpx.Client) -> list[str]:
    return client.get("/connectors").raise_for_status().json()


def _put(client: httpx.Client, name: str, config: dict[str, Any]) -> None:
    answer = client.put(f"/connectors/{name}/config", json=config)
    if answer.status_code in (409, 500, 503):  # the workers are rebalancing
        raise NotYet(f"{answer.status_code} {answer.text[:500]}")
    if answer.status_code >= 400:
        raise Problem(f"{name}: {answer.text[:500]}")


def _running(client: httpx.Client, name: str) -> None:
    status = client.get(f"/connectors/{name}/status").raise_for_status().json()
    parts = [status["connector"], *status["tasks"]]
    for part in parts:
        if part["state"] == "FAILED":
            client.post(f"/connectors/{name}/restart", params={"includeTasks": "true", "onlyFailed": "true"})
            raise NotYet(part.get("trace", "")[:600])
    if not status["tasks"] or any(part["state"] != "RUNNING" for part in parts):
        raise NotYet(f"{[part['state'] for part in parts]}")
