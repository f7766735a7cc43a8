"""Prompts in the format of Langfuse's API. Source: Langfuse, API reference, /api/public/v2/prompts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from kit.database import Connection
from kit.rest import Model
from pydantic import Field

from prompt import models
from prompt.models import LATEST, Version

Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]


class Which(models.Which):
    """A version, given by its number or by a label."""

    resolve: bool = True
    """Whether to insert included prompts. Otherwise `render` does that, since names of includes may be variable."""


class Wanted(Model):
    """Filter for prompts; pages begin with 1."""

    name: Word = ""
    label: Word = ""
    page: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    limit: Annotated[int, Field(ge=1, le=100)] = 50


class Entry(Model):
    """A prompt in a list."""

    name: str
    type: str
    versions: list[int]
    labels: list[str]
    tags: list[str]
    lastUpdatedAt: datetime
    lastConfig: dict[str, Any]


class Meta(Model):
    """Position of a page."""

    page: int
    limit: int
    totalItems: int
    totalPages: int


class Listed(Model):
    """A page of prompts."""

    data: list[Entry]
    meta: Meta


def shown(found: Version) -> dict[str, Any]:
    """A version in Langfuse's format."""
    prompt = found.prompt if isinstance(found.prompt, str) else [m.model_dump() for m in found.prompt]
    shared = {"name": found.name, "version": found.version, "config": found.config, "labels": found.labels}
    more = {"type": found.type.value, "tags": [], "resolutionGraph": None}
    return {**shared, **more, "prompt": prompt, "commitMessage": found.message or None}


_WHICH = (
    "FROM prompts p WHERE p.tenant = %(tenant)s AND %(name)s IN ('', p.name) AND (%(label)s IN ('', %(latest)s) OR "
    "EXISTS (SELECT 1 FROM labels l WHERE (l.tenant, l.name, l.label) = (p.tenant, p.name, %(label)s)))"
)
_OWN = "(v.tenant, v.name) = (p.tenant, p.name)"


async def listed(connection: Connection, tenant: str, wanted: Wanted) -> Listed:
    """A page of prompts in order of their names."""
    values = {"tenant": tenant, "name": wanted.name, "label": wanted.label, "latest": LATEST}
    cursor = await connection.execute(f"SELECT count(*) {_WHICH}", values)
    row = await cursor.fetchone()
    total = row[0] if row else 0
    cursor = await connection.execute(
        f"SELECT p.name, p.type, ARRAY(SELECT number FROM versions v WHERE {_OWN} ORDER BY number), "
        f"ARRAY(SELECT label FROM labels v WHERE {_OWN} ORDER BY label), "
        f"(SELECT max(created) FROM versions v WHERE {_OWN}), "
        f"(SELECT config FROM versions v WHERE {_OWN} ORDER BY number DESC LIMIT 1) "
        f"{_WHICH} ORDER BY p.name LIMIT %(limit)s OFFSET %(offset)s",
        {**values, "limit": wanted.limit, "offset": (wanted.page - 1) * wanted.limit},
    )
    entries = [
        Entry(
            name=name,
            type=kind,
            versions=versions,
            labels=[*labels, LATEST],
            tags=[],
            lastUpdatedAt=made,
            lastConfig=config,
        )
        for name, kind, versions, labels, made, config in await cursor.fetchall()
    ]
    pages = -(-total // wanted.limit)
    return Listed(data=entries, meta=Meta(page=wanted.page, limit=wanted.limit, totalItems=total, totalPages=pages))
