"""Stores prompts in the database."""

from __future__ import annotations

from typing import Any

import msgspec
from kit import bus, outbox, publishing
from kit.bus import Bus
from kit.database import Connection, Database
from kit.errors import ApiError, ErrorType, missing
from kit.publishing import Publisher
from kit.quotas import Quota, Quotas
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from prompt.models import LATEST, Kind, Listed, Message, NewVersion, Placed, Version

TOPIC = "prompt.changed.v1"
BUCKET = "labels"
QUOTAS = Quotas(
    "prompt",
    (
        Quota("prompts", 5000, "SELECT count(*) FROM prompts WHERE tenant = %s"),
        Quota("versions of prompts", 50_000, "SELECT count(*) FROM versions WHERE tenant = %s"),
        Quota("labels of prompts", 20_000, "SELECT count(*) FROM labels WHERE tenant = %s"),
        Quota("splits of prompts", 5000, "SELECT count(*) FROM splits WHERE tenant = %s"),
    ),
)
"""Default quotas of a tenant."""
_VERSION = """
SELECT v.name, p.type, v.number AS version, v.content AS prompt, v.variables, v.config, v.message, v.actor, v.created,
    v.includes,
    array(SELECT label FROM labels l WHERE (l.tenant, l.name, l.version) = (v.tenant, v.name, v.number) ORDER BY 1)
        || CASE WHEN v.number = p.last THEN ARRAY['latest'] ELSE ARRAY[]::text[] END AS labels
FROM versions v JOIN prompts p ON (p.tenant, p.name) = (v.tenant, v.name)
WHERE v.tenant = %(tenant)s AND v.name = %(name)s
"""


async def add(
    connection: Connection, quotas: Quotas, tenant: str, wanted: NewVersion, includes: list[str], actor: str
) -> tuple[Version, bool]:
    """Store a new version. Returns it and whether the prompt is new. Raises ApiError(429) beyond a quota."""
    cursor = await connection.execute("SELECT 1 FROM prompts WHERE tenant = %s AND name = %s", (tenant, wanted.name))
    known = await cursor.fetchone()
    await quotas.use(connection, tenant, {"versions of prompts": 1} | ({} if known else {"prompts": 1}))
    cursor = await connection.execute(
        "INSERT INTO prompts (tenant, name, type, last) VALUES (%s, %s, %s, 1) "
        "ON CONFLICT (tenant, name) DO UPDATE SET last = prompts.last + 1 RETURNING type, last",
        (tenant, wanted.name, wanted.type.value),
    )
    row = await cursor.fetchone()
    assert row is not None, "an insert returns its row"
    kind, number = row
    if kind != wanted.type.value:
        raise ApiError(409, f"The prompt is a {kind}; its type never changes.", param="type")
    content = wanted.prompt if isinstance(wanted.prompt, str) else [m.model_dump(mode="json") for m in wanted.prompt]
    await connection.execute(
        "INSERT INTO versions (tenant, name, number, content, variables, config, includes, message, actor) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            tenant,
            wanted.name,
            number,
            Jsonb(content),
            Jsonb(wanted.variables),
            Jsonb(wanted.config),
            Jsonb(includes),
            wanted.message,
            actor,
        ),
    )
    await note(connection, tenant, wanted.name, "version-created", actor, version=number)
    await publishing.changed(connection, BUCKET, bus.key(tenant, wanted.name, LATEST))
    found, _ = await read(connection, tenant, wanted.name, version=number)
    return found, number == 1


async def read(
    connection: Connection, tenant: str, name: str, *, version: int | None = None, label: str | None = None
) -> tuple[Version, list[str]]:
    """A version, by its number or label, and its includes. Raises ApiError(404)."""
    if version is not None:
        which, value = " AND v.number = %(value)s", version
    elif label in (None, LATEST):
        which, value = " AND v.number = p.last", 0
    else:
        which = " AND v.number = (SELECT version FROM labels WHERE tenant = %(tenant)s AND name = %(name)s AND label = %(value)s)"  # noqa: E501
        value = label
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_VERSION + which, {"tenant": tenant, "name": name, "value": value})
        row = await cursor.fetchone()
    if row is None:
        raise missing("prompt" if version is None and label in (None, LATEST) else "version")
    includes = row.pop("includes")
    return _version(row), includes


def _version(row: dict[str, Any]) -> Version:
    if row["type"] == Kind.CHAT:
        row["prompt"] = [Message(**message) for message in row["prompt"]]
    return Version(**row)


async def versions(connection: Connection, tenant: str, name: str) -> list[Version]:
    """All versions of a prompt, newest first."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_VERSION + " ORDER BY v.number DESC LIMIT 500", {"tenant": tenant, "name": name})
        rows = await cursor.fetchall()
    if not rows:
        raise missing("prompt")
    for row in rows:
        del row["includes"]
    return [_version(row) for row in rows]


async def listed(connection: Connection, tenant: str, after: str, limit: int) -> list[Listed]:
    """A page of prompts in order of their names."""
    cursor = await connection.execute(
        "SELECT p.name, p.type, p.last, coalesce((SELECT jsonb_object_agg(l.label, l.version) FROM labels l "
        "WHERE (l.tenant, l.name) = (p.tenant, p.name)), '{}') FROM prompts p "
        "WHERE p.tenant = %s AND p.name > %s ORDER BY p.name LIMIT %s",
        (tenant, after, limit),
    )
    return [Listed(name=n, type=t, versions=v, labels=m | {LATEST: v}) for n, t, v, m in await cursor.fetchall()]


async def place(
    connection: Connection,
    quotas: Quotas,
    tenant: str,
    name: str,
    label: str,
    version: int,
    protected: bool | None,
    manages: bool,
) -> Placed:
    """Move a label. Raises ApiError if that is not allowed, or if the version does not exist."""
    if label == LATEST:
        raise ApiError(409, f'The label "{LATEST}" always points to the newest version.', param="label")
    cursor = await connection.execute(
        "SELECT 1 FROM versions WHERE tenant = %s AND name = %s AND number = %s", (tenant, name, version)
    )
    if await cursor.fetchone() is None:
        raise missing("version")
    before = await placed(connection, tenant, name, label)
    if not manages and ((before and before.protected) or protected is not None):
        raise ApiError(403, f'Label "{label}" is protected: the scope "manage" is needed.', ErrorType.PERMISSION)
    if before is None:
        await quotas.use(connection, tenant, {"labels of prompts": 1})
    keeps = protected if protected is not None else bool(before and before.protected)
    await connection.execute(
        "INSERT INTO labels VALUES (%s, %s, %s, %s, %s) ON CONFLICT (tenant, name, label) "
        "DO UPDATE SET version = excluded.version, protected = excluded.protected",
        (tenant, name, label, version, keeps),
    )
    await publishing.changed(connection, BUCKET, bus.key(tenant, name, label))
    return Placed(label=label, version=version, protected=keeps)


async def placed(connection: Connection, tenant: str, name: str, label: str) -> Placed | None:
    """Position of a label, locked until the end of the transaction."""
    cursor = await connection.execute(
        "SELECT version, protected FROM labels WHERE tenant = %s AND name = %s AND label = %s FOR UPDATE",
        (tenant, name, label),
    )
    row = await cursor.fetchone()
    return Placed(label=label, version=row[0], protected=row[1]) if row else None


async def note(connection: Connection, tenant: str, name: str, change: str, actor: str, **more: Any) -> None:
    """Write a change to the outbox, for the audit log."""
    data = {"tenant": tenant, "name": name, "change": change, "actor": actor, **more}
    await outbox.put(connection, TOPIC, "prompt", tenant, data)


async def erase(connection: Connection, tenant: str) -> None:
    """Delete all prompts of a tenant. Stored answers for repeated requests expire within a day."""
    cursor = await connection.execute("SELECT name, label FROM labels WHERE tenant = %s", (tenant,))
    labels = await cursor.fetchall()
    cursor = await connection.execute("DELETE FROM prompts WHERE tenant = %s RETURNING name", (tenant,))
    for name, label in (*labels, *((name, LATEST) for (name,) in await cursor.fetchall())):
        await publishing.changed(connection, BUCKET, bus.key(tenant, name, label))


class PromptPublisher(Publisher):
    """Publishes the position of each label to routers."""

    def __init__(self, database: Database, nats: Bus) -> None:
        super().__init__(database, nats, BUCKET)

    async def value(self, connection: Connection, bucket: str, key: str) -> bytes | None:
        """The version number of a label."""
        tenant, name, label = bus.parts(key)
        if label == LATEST:
            cursor = await connection.execute(
                "SELECT last FROM prompts WHERE tenant = %s AND name = %s", (tenant, name)
            )
        else:
            cursor = await connection.execute(
                "SELECT version FROM labels WHERE tenant = %s AND name = %s AND label = %s", (tenant, name, label)
            )
        row = await cursor.fetchone()
        return msgspec.json.encode({"version": row[0]}) if row else None

    async def keys(self, connection: Connection, bucket: str) -> set[str]:
        """All labels, and "latest" for each prompt."""
        cursor = await connection.execute(
            f"SELECT tenant, name, label FROM labels UNION ALL SELECT tenant, name, '{LATEST}' FROM prompts"
        )
        return {bus.key(*row) for row in await cursor.fetchall()}
