"""Reconciles the store's content with the declaration: engines, policies, roles and keys, but not secrets.

Differences are found by comparison, so reconciliation can be interrupted, and two can run concurrently. Undeclared
objects are removed first, so that a failure elsewhere never leaves an undeclared way to log in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from baonode.client import Client, Refused

OURS = "CogniForge"
"""Description of engines that a release of the platform has created."""
BUILT_IN_ENGINES = frozenset(("cubbyhole/", "identity/", "sys/"))
BUILT_IN_POLICIES = frozenset(("default", "root"))
"""Built-in policies that nobody has: roles name all of their policies, and the root token is revoked."""
BUILT_IN_LOGINS = frozenset(("token/",))
LOGIN = "kubernetes/"


class Kind(StrEnum):
    """Action for a difference."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    KEEP = "keep"
    """No action: the object is not declared, but may contain the only copy of data."""


@dataclass(frozen=True)
class Difference:
    """One difference from the declaration."""

    kind: Kind
    path: str
    body: dict[str, Any] | None = None
    """Content to write."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.path}"

    def settle(self, client: Client) -> None:
        """Apply the action."""
        if self.kind is Kind.REMOVE:
            client.remove(self.path)
        elif self.body is not None:
            client.write(self.path, self.body)


def differences(client: Client, declared: dict[str, Any]) -> list[Difference]:
    """All differences, in the order of their actions."""
    found = [
        *_logins(client),
        *_roles(client, declared["roles"]),
        *_policies(client, declared["policies"]),
        *_groups(client),
        *_engines(client, declared["engines"]),
        *_keys(client, declared["keys"]),
        *_databases(client, declared["databases"]),
    ]
    order = (Kind.REMOVE, Kind.CHANGE, Kind.ADD, Kind.KEEP)
    return sorted(found, key=lambda one: order.index(one.kind))


def settle(client: Client, declared: dict[str, Any]) -> tuple[list[Difference], list[str]]:
    """Apply all actions. Returns the applied differences, and the reasons of failures.

    Another node may do the same concurrently. Differences that it has settled first are gone in the next round.
    """
    done: list[Difference] = []
    failed: list[str] = []
    for difference in differences(client, declared):
        if difference.kind is Kind.KEEP:
            continue
        try:
            difference.settle(client)
        except Refused as refused:
            failed.append(f"{difference}: {refused}")
        else:
            done.append(difference)
    return done, failed


def _logins(client: Client) -> Iterator[Difference]:
    """Authentication methods: only ServiceAccount tokens are allowed."""
    for path in client.read("sys/auth") or {}:
        if path not in BUILT_IN_LOGINS and path != LOGIN:
            yield Difference(Kind.REMOVE, f"sys/auth/{path.rstrip('/')}")


def _roles(client: Client, wanted: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    return _named(client, f"auth/{LOGIN}role", wanted)


def _policies(client: Client, wanted: dict[str, str]) -> Iterator[Difference]:
    bodies = {name: {"policy": text} for name, text in wanted.items()}
    return _named(client, "sys/policies/acl", bodies, BUILT_IN_POLICIES)


def _named(
    client: Client,
    base: str,
    wanted: dict[str, dict[str, Any]],
    built_in: frozenset[str] = frozenset(),
    names: Callable[[Client, str], list[str]] = Client.names,
) -> Iterator[Difference]:
    """Compare the declared objects by name below a path. Only built-in objects may exist beside them."""
    there = names(client, base)
    for name in there:
        if name not in wanted and name not in built_in:
            yield Difference(Kind.REMOVE, f"{base}/{name}")
    for name, body in sorted(wanted.items()):
        found = client.read(f"{base}/{name}") if name in there else None
        if found is None:
            yield Difference(Kind.ADD, f"{base}/{name}", body)
        elif any(found.get(field) != value for field, value in body.items()):
            yield Difference(Kind.CHANGE, f"{base}/{name}", body)


def _groups(client: Client) -> Iterator[Difference]:
    """Groups and entities, which must not exist, since they would add policies to those of roles."""
    for identifier in client.names("identity/group/id"):
        yield Difference(Kind.REMOVE, f"identity/group/id/{identifier}")
    for identifier in client.names("identity/entity/id"):
        found = client.read(f"identity/entity/id/{identifier}")
        if found and found.get("policies"):
            yield Difference(Kind.CHANGE, f"identity/entity/id/{identifier}", {"policies": []})


def _engines(client: Client, wanted: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    there = client.read("sys/mounts") or {}
    for path, found in there.items():
        name = path.rstrip("/")
        if path in BUILT_IN_ENGINES or name in wanted:
            continue
        # Another release's engine: a step back to this one must not destroy what only that engine holds. No policy
        # leads there.
        kind = Kind.KEEP if str(found.get("description", "")).startswith(OURS) else Kind.REMOVE
        yield Difference(kind, f"sys/mounts/{name}")
    for name, asked in sorted(wanted.items()):
        if f"{name}/" not in there:
            yield Difference(Kind.ADD, f"sys/mounts/{name}", {"description": OURS, **asked})


def _keys(client: Client, wanted: dict[str, str]) -> Iterator[Difference]:
    """Keys. They are created but never removed, since data encrypted with them outlives the service."""
    there = set(_names_if_any(client, "transit/keys"))
    for name in sorted(there - set(wanted)):
        yield Difference(Kind.KEEP, f"transit/keys/{name}")
    for name, kind in sorted(wanted.items()):
        if name not in there:
            yield Difference(Kind.ADD, f"transit/keys/{name}", {"type": kind, "exportable": False})


def _databases(client: Client, wanted: dict[str, dict[str, Any]]) -> Iterator[Difference]:
    """How logins for PostgreSQL are made. A removed role ends no login: its lease does."""
    return _named(client, "database/roles", wanted, names=_names_if_any)


def _names_if_any(client: Client, path: str) -> list[str]:
    """Names below a path of an engine that may not exist yet, or that an older policy does not show yet."""
    try:
        return client.names(path)
    except Refused as refused:
        if refused.status not in (400, 403, 404):
            raise
        return []
