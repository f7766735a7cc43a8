"""REST operations of the Prompt service."""

from __future__ import annotations

import difflib
import json
from typing import Any, cast

from kit import bus, dead_letters, genai, publishing, replicas, rest_app
from kit.database import Connection, Database
from kit.directory import Grant, Scope
from kit.errors import ApiError, missing
from kit.quotas import Quotas
from kit.rest import Call, Nothing, Operation
from psycopg.types.json import Jsonb

from prompt import langfuse, models, rendering, store
from prompt.models import (
    LATEST,
    PRODUCTION,
    Asked,
    Compared,
    Difference,
    Listed,
    NewVersion,
    Page,
    Place,
    Placed,
    Promotion,
    Rendered,
    Split,
    Version,
    Which,
)
from prompt.rendering import Renderer

SCOPE = Scope.PROMPTS
PREFIX = "/v1/prompt"
"""Scope of operations on the service itself."""
_NAME = ("name", models.NAMED, "A prompt's name")
_LABEL = ("label", models.LABELLED, "A label, such as production")


def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    own = Api.operations(cast("Api", Api))
    return rest_app.document("Prompt", [*own, *dead_letters.operations(PREFIX), *replicas.operations(PREFIX)])


class Api:
    """REST operations on one database."""

    def __init__(
        self,
        database: Database,
        publisher: publishing.Publisher | None,
        renderer: Renderer,
        quotas: Quotas = store.QUOTAS,
    ) -> None:
        self._database, self._publisher, self._renderer, self._quotas = database, publisher, renderer, quotas

    def operations(self) -> list[Operation]:
        """All operations. On the class itself they serve as descriptions only and cannot be called."""
        one: dict[str, Any] = {"parameters": (_NAME,), "scope": SCOPE, "failures": (404,)}
        label: dict[str, Any] = {"parameters": (_NAME, _LABEL), "scope": SCOPE, "failures": (403, 404, 409, 429)}
        path = "/v1/prompts/{name:path}"
        return [
            Operation("POST", "/v1/prompts", "Create an immutable version.", self.add, Version, body=NewVersion,
                      scope=SCOPE, status=201, failures=(403, 409, 429), makes=True, check=self.check),
            Operation("GET", "/v1/prompts", "List all prompts.", self.listed, list[Listed], query=Page, scope=SCOPE),
            Operation("GET", path + "/versions", "List a prompt's versions, newest first.", self.versions,
                      list[Version], **one),
            Operation("GET", path + "/diff", "Compare two versions.", self.diff, Difference,
                      query=Compared, **one),
            Operation("PUT", path + "/labels/{label}", "Move a label; Routers follow within a second.", self.place,
                      Placed, body=Place, **label),
            Operation("DELETE", path + "/labels/{label}", "Delete a label.", self.unplace, Nothing, status=204,
                      **label),
            Operation("POST", path + "/promote", "Move a label to the version of another label.", self.promote, Placed,
                      body=Promotion, parameters=(_NAME,), scope=SCOPE, failures=(403, 404, 409, 429), makes=True),
            Operation("PUT", path + "/splits/{label}", "Split callers between labels.", self.split, Split,
                      body=Split, **label),
            Operation("POST", path + "/render", "Render a version with variables.", self.render, Rendered,
                      body=Asked, parameters=(_NAME,), scope=SCOPE, failures=(404, 429)),
            Operation("GET", path, "Get a version by number or label; default: production.", self.read, Version,
                      query=Which, **one),
            Operation("DELETE", path, "Delete a prompt with all its versions.", self.drop, Nothing, status=204,
                      parameters=(_NAME,), scope=SCOPE, failures=(403, 404, 409)),
            Operation("GET", "/api/public/v2/prompts/{name:path}", "Get a version (Langfuse's API).",
                      self.langfuse, query=langfuse.Which, **one),
            Operation("GET", "/api/public/v2/prompts", "List all prompts (Langfuse's API).",
                      self.langfuses, langfuse.Listed, query=langfuse.Wanted, scope=SCOPE),
        ]  # fmt: skip

    def _wake(self) -> None:
        if self._publisher is not None:
            self._publisher.wake()

    async def check(self, call: Call[Any, NewVersion]) -> None:
        """Refuses templates that can never render. No transaction is open meanwhile."""
        call.request.state.includes = await self._renderer.check(call.caller.tenant, call.body)

    async def add(self, call: Call[Any, NewVersion]) -> Version:
        """The included prompts must exist."""
        wanted, tenant = call.body, call.caller.tenant
        includes: list[str] = call.request.state.includes
        async with self._database.transaction() as connection:
            made, _ = await store.add(connection, self._quotas, tenant, wanted, includes, call.caller.actor)
            await rendering.closure(connection, tenant, made, includes)
            for label in wanted.labels:
                await store.place(
                    connection, self._quotas, tenant, made.name, label, made.version, None, manages(call.caller)
                )
                await store.note(
                    connection, tenant, made.name, "label-moved", call.caller.actor, version=made.version, label=label
                )
            made, _ = await store.read(connection, tenant, made.name, version=made.version)
        self._wake()
        return made

    async def listed(self, call: Call[Page, None]) -> list[Listed]:
        """A page of prompts."""
        async with self._database.transaction() as connection:
            return await store.listed(connection, call.caller.tenant, call.query.after, call.query.limit)

    async def versions(self, call: Call[Any, None]) -> list[Version]:
        """Each version with its labels."""
        async with self._database.transaction() as connection:
            return await store.versions(connection, call.caller.tenant, call.path["name"])

    async def _one(self, call: Call[Any, Any], which: Which) -> tuple[Version, list[str]]:
        if which.version is not None and which.label is not None:
            raise ApiError(400, "set either version or label, not both", param="label")
        tenant, name = call.caller.tenant, call.path["name"]
        async with self._database.transaction() as connection:
            if which.version is not None:
                return await store.read(connection, tenant, name, version=which.version)
            return await store.read(connection, tenant, name, label=which.label or PRODUCTION)

    async def read(self, call: Call[Which, None]) -> Version:
        """The version as it was created."""
        return (await self._one(call, call.query))[0]

    async def langfuse(self, call: Call[langfuse.Which, None]) -> dict[str, Any]:
        """A version in Langfuse's format."""
        found, _ = await self._one(call, call.query)
        return langfuse.shown(found)

    async def langfuses(self, call: Call[langfuse.Wanted, None]) -> langfuse.Listed:
        """A page in Langfuse's format."""
        async with self._database.transaction() as connection:
            return await langfuse.listed(connection, call.caller.tenant, call.query)

    async def diff(self, call: Call[Compared, None]) -> Difference:
        """Compares both versions as JSON, with texts split into lines."""
        tenant, name, wanted = call.caller.tenant, call.path["name"], call.query
        async with self._database.transaction() as connection:
            a, _ = await store.read(connection, tenant, name, version=wanted.a)
            b, _ = await store.read(connection, tenant, name, version=wanted.b)
        lines = difflib.unified_diff(
            _written(a), _written(b), f"{name}@{a.version}", f"{name}@{b.version}", lineterm=""
        )
        return Difference(a=a.version, b=b.version, diff="\n".join(lines))

    async def place(self, call: Call[Any, Place]) -> Placed:
        """Routers receive the change within a second."""
        async with self._database.transaction() as connection:
            found = await self._move(connection, call, call.path["label"], call.body.version, call.body.protected)
        self._wake()
        return found

    async def promote(self, call: Call[Any, Promotion]) -> Placed:
        """Moves the label only if it is at the version that the caller expects."""
        wanted, tenant, name = call.body, call.caller.tenant, call.path["name"]
        async with self._database.transaction() as connection:
            source, _ = await store.read(connection, tenant, name, label=wanted.source)
            before = await store.placed(connection, tenant, name, wanted.target)
            at = before.version if before else 0
            if wanted.expected is not None and wanted.expected != at:
                raise ApiError(409, f'Label "{wanted.target}" is at version {at}.', param="expected")
            found = await self._move(connection, call, wanted.target, source.version, None)
        self._wake()
        return found

    async def _move(
        self, connection: Connection, call: Call[Any, Any], label: str, version: int, protected: bool | None
    ) -> Placed:
        tenant, name, who = call.caller.tenant, call.path["name"], call.caller.actor
        found = await store.place(
            connection, self._quotas, tenant, name, label, version, protected, manages(call.caller)
        )
        await store.note(connection, tenant, name, "label-moved", who, version=version, label=label)
        if protected:
            await store.note(connection, tenant, name, "label-protected", who, version=version, label=label)
        return found

    async def unplace(self, call: Call[Any, None]) -> None:
        """Requests for the label then end in 404."""
        tenant, name, label = call.caller.tenant, call.path["name"], call.path["label"]
        async with self._database.transaction() as connection:
            found = await store.placed(connection, tenant, name, label)
            if found is None:
                raise missing("label")
            if found.protected and not manages(call.caller):
                raise ApiError(403, f'Label "{label}" is protected; moving it needs the scope "manage".')
            await connection.execute(
                "DELETE FROM labels WHERE tenant = %s AND name = %s AND label = %s", (tenant, name, label)
            )
            await publishing.changed(connection, store.BUCKET, bus.key(tenant, name, label))
            await store.note(connection, tenant, name, "label-moved", call.caller.actor, version=0, label=label)
        self._wake()

    async def split(self, call: Call[Any, Split]) -> Split:
        """All labels must exist."""
        tenant, name = call.caller.tenant, call.path["name"]
        async with self._database.transaction() as connection:
            for label in call.body.weights:
                await store.read(connection, tenant, name, label=label)
            cursor = await connection.execute(
                "SELECT 1 FROM splits WHERE tenant = %s AND name = %s AND split = %s",
                (tenant, name, call.path["label"]),
            )
            if await cursor.fetchone() is None:
                await self._quotas.use(connection, tenant, {"splits of prompts": 1})
            await connection.execute(
                "INSERT INTO splits VALUES (%s, %s, %s, %s) "
                "ON CONFLICT (tenant, name, split) DO UPDATE SET weights = excluded.weights",
                (tenant, name, call.path["label"], Jsonb(call.body.weights)),
            )
            await store.note(connection, tenant, name, "split-set", call.caller.actor, label=call.path["label"])
        return call.body

    async def render(self, call: Call[Any, Asked]) -> Rendered:
        """By number, label or split; the default is the label `production`."""
        return await self.rendered(call.caller.tenant, call.path["name"], call.body)

    async def rendered(self, tenant: str, name: str, wanted: Asked) -> Rendered:
        """For any caller with access to the tenant's prompts. Raises ApiError."""
        with genai.span("render_prompt", name, {genai.PROMPT_NAME: name}) as span:
            found = await self._rendered(tenant, name, wanted)
            span.set_attribute("cogniforge.prompt.version", found.version)
            return found

    async def _rendered(self, tenant: str, name: str, wanted: Asked) -> Rendered:
        if sum(which is not None for which in (wanted.version, wanted.label, wanted.split)) > 1:
            raise ApiError(400, "set only one of version, label and split", param="label")
        async with self._database.transaction() as connection:
            label = wanted.label or PRODUCTION
            if wanted.split is not None:
                cursor = await connection.execute(
                    "SELECT weights FROM splits WHERE tenant = %s AND name = %s AND split = %s",
                    (tenant, name, wanted.split),
                )
                row = await cursor.fetchone()
                if row is None:
                    raise missing("split")
                label = rendering.chosen(row[0], wanted.split, name, wanted.user)
            which: dict[str, Any] = {"label": label} if wanted.version is None else {"version": wanted.version}
            version, includes = await store.read(connection, tenant, name, **which)
            parts, numbers = await rendering.closure(connection, tenant, version, includes)
        # Return the database connection before rendering, which runs a tenant's template.
        prompt, cached = await self._renderer.render(tenant, version, parts, numbers, dict(wanted.variables))
        return Rendered(
            name=version.name,
            version=version.version,
            label=label if wanted.version is None else "",
            type=version.type,
            prompt=prompt,
            config=version.config,
            cached=cached,
        )

    async def drop(self, call: Call[Any, None]) -> None:
        """Refused while the prompt has a protected label."""
        tenant, name = call.caller.tenant, call.path["name"]
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "SELECT label, protected FROM labels WHERE tenant = %s AND name = %s FOR UPDATE", (tenant, name)
            )
            labels = await cursor.fetchall()
            if kept := [label for label, protected in labels if protected]:
                raise ApiError(409, f"The prompt has protected labels: {', '.join(sorted(kept))}. Delete them first.")
            cursor = await connection.execute("DELETE FROM prompts WHERE tenant = %s AND name = %s", (tenant, name))
            if not cursor.rowcount:
                raise missing("prompt")
            for label in (*(label for label, _ in labels), LATEST):
                await publishing.changed(connection, store.BUCKET, bus.key(tenant, name, label))
            await store.note(connection, tenant, name, "deleted", call.caller.actor)
        self._wake()


def manages(caller: Grant) -> bool:
    """Whether the caller may move protected labels."""
    return caller.allows(Scope.MANAGE)


def _written(version: Version) -> list[str]:
    content = version.model_dump(mode="json", include={"prompt", "variables", "config"})
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True)
    return [line for part in text.split("\n") for line in part.split("\\n")]
