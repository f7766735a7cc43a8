"""Prompts: the list, and one prompt with its versions, its labels, and what differs between two versions."""

from __future__ import annotations

from typing import Any

from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal.gateway import Answer, address
from portal.view import PREFIX, Views, Visit, done, paged

PATH = f"{PREFIX}/prompts"
_ROWS = 50


class Listed(Model):
    """What the list shows."""

    after: str = Field(default="", max_length=200, description="Name after which the list begins")


class Chosen(Model):
    """What the page of a prompt shows."""

    name: str = Field(max_length=200, description="The prompt's name")
    a: int = Field(default=0, ge=0, le=2**31 - 1, description="Older version of the difference; 0: none")
    b: int = Field(default=0, ge=0, le=2**31 - 1, description="Newer version of the difference; 0: none")
    page: int = Field(default=1, ge=1, le=100_000, description="Page of the list of versions")


class Prompts:
    """The pages and their actions."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """The list, page by page, as the API gives it."""
        after: str = visit.call.query.after
        found = await visit.api.get(address("/v1/prompts", after=after, limit=_ROWS))
        rows = found.items()
        following = str(rows[-1].get("name", "")) if len(rows) == _ROWS else ""
        return await self._views.show(visit, "prompts.html", found=found, rows=rows, after=after, following=following)

    async def one(self, visit: Visit) -> Response:
        """One prompt."""
        query: Chosen = visit.call.query
        paths = [address("/v1/prompts/{}/versions", query.name)]
        if query.a and query.b:
            paths.append(address("/v1/prompts/{}/diff", query.name, a=query.a, b=query.b))
        versions, *more = await visit.api.all(*paths)
        difference: Answer | None = more[0] if more else None
        rows: list[Any] = sorted(versions.items(), key=lambda one: -int(one.get("version", 0)))
        return await self._views.show(
            visit,
            "prompt.html",
            404 if versions.status == 404 else 200,
            name=query.name,
            versions=versions,
            paged=paged(rows, query.page),
            newest=rows[0] if rows else None,
            difference=difference,
            lines=str(difference.get("diff", "")).splitlines() if difference else [],
            query=query,
        )

    async def move(self, visit: Visit) -> Response:
        """Move a label to a version."""
        form = visit.form
        name, version = form.get("name", ""), form.get("version", "")
        body = {"version": int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0}
        moved = await visit.api.call("PUT", address("/v1/prompts/{}/labels/{}", name, form.get("label", "")), body)
        back = address(f"{PATH}/one", name=name)
        return done(back) if moved.ok else await self._views.refuse(visit, moved, back)
