"""Queries and checks that several operations share."""

from __future__ import annotations

import json
from typing import Any

from kit import bus, directory, guard_policy, outbox, publishing, rest
from kit.database import Connection
from kit.errors import ApiError, ErrorType, missing
from kit.quotas import Quota, Quotas
from kit.rest import Call
from psycopg.rows import dict_row
from pydantic import ValidationError

from user.login import Identity
from user.models import Limits, Policy, Tenant

POLICIES = "policies"
VALID = "revoked IS NULL AND (expires IS NULL OR expires > now())"
"""SQL condition for a valid key."""
_PROBLEMS = 20
QUOTAS = Quotas(
    "user",
    (
        Quota("users", 10_000, "SELECT count(*) FROM users WHERE tenant = %s"),
        Quota("teams", 1000, "SELECT count(*) FROM teams WHERE tenant = %s"),
        Quota("keys", 5000, f"SELECT count(*) FROM keys WHERE tenant = %s AND {VALID}"),
        Quota("relations", 100_000, "SELECT count(*) FROM relations WHERE tenant = %s"),
    ),
)
"""Default quotas of a tenant. Revoked and expired keys do not count."""
TOPIC = "user.changed.v1"
COLUMNS = "id, name, models, requests_per_minute, tokens_per_minute, created"


def own(call: Call[Any, Any]) -> str:
    """The tenant in the path. Raises ApiError(404) if it is not the caller's."""
    return rest.own(call.caller, call.path["tenant"])


async def found_tenant(connection: Connection, tenant: str) -> Tenant:
    """A tenant. Raises ApiError(404)."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(f"SELECT {COLUMNS} FROM tenants WHERE id = %s", (tenant,))
        row = await cursor.fetchone()
    if row is None:
        raise missing("tenant")
    return Tenant(**row)


async def found_policy(connection: Connection, tenant: str) -> Policy:
    """A tenant's guard policy and whether it is in force. Raises ApiError(404)."""
    cursor = await connection.execute(
        "SELECT policy, EXISTS (SELECT FROM changes WHERE (bucket, key) = (%s, %s)) FROM tenants WHERE id = %s",
        (POLICIES, bus.key(tenant), tenant),
    )
    row = await cursor.fetchone()
    if row is None:
        raise missing("tenant")
    policy, waits = row
    problems: list[str] = []
    if policy is not None:
        try:
            guard_policy.Policy.model_validate_json(json.dumps(policy))
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found[:_PROBLEMS]]
    return Policy(policy=policy, in_force=not waits and not problems, problems=problems)


async def found_user(connection: Connection, tenant: str, user: str) -> None:
    """Raise ApiError(404) if the tenant has no such user."""
    cursor = await connection.execute("SELECT 1 FROM users WHERE tenant = %s AND id = %s", (tenant, user))
    if await cursor.fetchone() is None:
        raise missing("user")


async def limit(connection: Connection, tenant: str, wanted: Limits) -> Tenant:
    """Set the limits of a tenant. Raises ApiError(404)."""
    values = (wanted.name, list(wanted.models), wanted.requests_per_minute, wanted.tokens_per_minute, tenant)
    cursor = await connection.execute(
        "UPDATE tenants SET name = %s, models = %s, requests_per_minute = %s, tokens_per_minute = %s WHERE id = %s",
        values,
    )
    if not cursor.rowcount:
        raise missing("tenant")
    await publishing.changed(connection, directory.BUCKET, bus.key(directory.TENANT, tenant))
    return await found_tenant(connection, tenant)


async def recognized(connection: Connection, identity: Identity) -> tuple[str, str]:
    """(user, tenant) of an identity: a known user, or one whose address the tenant has invited.

    An invitation is valid only for a login to the tenant that sent it. Otherwise a tenant could take over users of
    others by inviting their addresses first. Raises ApiError(403).
    """
    cursor = await connection.execute(
        "SELECT id, tenant FROM users WHERE issuer = %s AND subject = %s AND %s IN ('', tenant)",
        (identity.issuer, identity.subject, identity.tenant),
    )
    rows = await cursor.fetchall()
    if not rows and identity.tenant and identity.email:
        cursor = await connection.execute(
            "UPDATE users SET issuer = %s, subject = %s WHERE tenant = %s AND email = lower(%s) AND subject IS NULL "
            "RETURNING id, tenant",
            (identity.issuer, identity.subject, identity.tenant, identity.email),
        )
        rows = await cursor.fetchall()
    if len(rows) > 1 or (not rows and not identity.tenant):
        message = "Name your tenant: use /v1/login?tenant=ID at the first login, and if you are in several tenants."
        raise ApiError(403, message, ErrorType.PERMISSION, param="tenant", code="tenant_needed")
    if not rows:
        raise ApiError(403, "There is no invitation for you.", ErrorType.PERMISSION, code="not_invited")
    return rows[0][0], rows[0][1]


async def note(
    connection: Connection, call: Call[Any, Any], tenant: str, kind: str, name: str, change: str, after: Any = None
) -> None:
    """Write a change to the outbox, for the audit log."""
    data: dict[str, Any] = {"tenant": tenant, "kind": kind, "id": name, "change": change}
    data["actor"] = call.caller.actor
    if after is not None:
        data["after"] = after.model_dump(mode="json")
    await outbox.put(connection, TOPIC, "user", tenant, data)
