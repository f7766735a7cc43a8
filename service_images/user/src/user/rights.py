"""Rules for granting rights: neither a key nor a role may exceed the rights of the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any

from kit.database import Connection
from kit.directory import TENANT_SCOPES, Grant, Scope
from kit.errors import ApiError, ErrorType

from user.login import Identity
from user.models import NewKey, Relation, Tuple

_MEMBER = (Scope.INFERENCE, Scope.EMBEDDINGS, Scope.GUARDRAILS, Scope.RETRIEVAL)
ROLES: dict[Relation, tuple[Scope, ...]] = {
    Relation.OWNER: TENANT_SCOPES,
    Relation.ADMIN: TENANT_SCOPES,
    Relation.EDITOR: (*_MEMBER, Scope.PROMPTS),
    Relation.VIEWER: _MEMBER,
    Relation.MEMBER: _MEMBER,
}
"""Scopes of a login's key, by the user's role in the tenant."""


def key(caller: Grant, wanted: NewKey) -> NewKey:
    """The wanted key with defaults for missing fields: the most that the caller may grant.

    Raises ApiError(403) with all fields that exceed the caller's own key.
    """
    scopes = wanted.scopes or TENANT_SCOPES
    user = wanted.user or caller.user
    ends = datetime.fromtimestamp(caller.expires, UTC) if caller.expires is not None else None
    expires = wanted.expires or ends
    beyond: dict[str, str] = {}
    if not caller.operator:
        if more := sorted(set(scopes) - set(caller.scopes)):
            beyond["scopes"] = f"your key lacks {', '.join(more)}; choose from {', '.join(caller.scopes)}"
        if user != caller.user and not caller.allows(Scope.IMPERSONATE):
            beyond["user"] = f'your key is not this user\'s; the scope "{Scope.IMPERSONATE.value}" is needed'
    if ends is not None and expires is not None and expires > ends:
        beyond["expires"] = f"your key expires at {ends.isoformat()}; choose an earlier time"
    _refuse("The key would allow more than yours does", beyond)
    return wanted.model_copy(update={"scopes": scopes, "user": user, "expires": expires})


def role(caller: Grant, tenant: str, writes: Iterable[Tuple]) -> None:
    """Raise ApiError(403) if relations would grant roles whose scopes the caller's key lacks."""
    if caller.operator:
        return
    beyond: dict[str, str] = {}
    for number, tuple_ in enumerate(writes):
        if tuple_.object != f"tenant:{tenant}":
            continue
        if more := sorted(set(ROLES.get(tuple_.relation, TENANT_SCOPES)) - set(caller.scopes)):
            beyond[f"writes.{number}"] = (
                f"{tuple_.relation.value} of the tenant has {', '.join(more)}, which your key lacks"
            )
    _refuse("The role would allow more than your key does", beyond)


def _refuse(what: str, beyond: dict[str, str]) -> None:
    if beyond:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in beyond.items())
        raise ApiError(403, f"{what}: {reasons}.", ErrorType.PERMISSION, param=next(iter(beyond)))


async def of_login(connection: Connection, tenant: str, user: str, groups: Collection[str] = ()) -> tuple[Scope, ...]:
    """Scopes of a login's key: the union of the scopes of the user's roles in the tenant.

    A role is a relation to the tenant, or membership in the provider's group `/tenants/<tenant>/<role>`.
    """
    cursor = await connection.execute(
        "SELECT relation FROM relations WHERE tenant = %s AND object = %s AND subject = %s",
        (tenant, f"tenant:{tenant}", f"user:{user}"),
    )
    rows: list[Any] = await cursor.fetchall()
    held = [ROLES[Relation(row[0])] for row in rows if Relation(row[0]) in ROLES]
    held += [scopes for role, scopes in ROLES.items() if f"/tenants/{tenant}/{role.value}" in groups]
    allowed = {scope for scopes in (_MEMBER, *held) for scope in scopes}
    return tuple(scope for scope in TENANT_SCOPES if scope in allowed)


def delegated(identity: Identity, scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """Those of a person's scopes that the program may have that acts for the person. Raises ApiError(403) for none."""
    if identity.scopes is None:
        return scopes
    found = tuple(scope for scope in scopes if scope.value in identity.scopes)
    if not found:
        message = f"The program {identity.client} may do nothing that you may do in this tenant."
        raise ApiError(403, message, ErrorType.PERMISSION, code="nothing_delegated")
    return found
