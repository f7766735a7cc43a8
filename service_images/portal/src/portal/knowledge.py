"""Knowledge: the reader's files and stores, and a search as the reader's programs would do it."""

from __future__ import annotations

from typing import Any

from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal.gateway import Answer, address
from portal.view import PREFIX, Views, Visit

PATH = f"{PREFIX}/knowledge"
_ROWS = 50


class Listed(Model):
    """What the page shows."""

    after: str = Field(default="", max_length=64, pattern="^[A-Za-z0-9_-]*$", description="File after which to begin")
    store: str = Field(default="", max_length=64, pattern="^[A-Za-z0-9_-]*$", description="Store that is chosen")


class Knowledge:
    """The page and its action."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """Files and stores."""
        query: Listed = visit.call.query
        return await self._page(visit, query.after, query.store)

    async def search(self, visit: Visit) -> Response:
        """Passages of a store that fit a question, within what the reader may read."""
        store, question = visit.form.get("store", ""), visit.form.get("question", "")
        body = {"query": question, "max_num_results": 10}
        found = await visit.api.call("POST", address("/v1/vector_stores/{}/search", store), body)
        return await self._page(visit, "", store, found, question)

    async def _page(
        self, visit: Visit, after: str, store: str, found: Answer | None = None, question: str = ""
    ) -> Response:
        files, stores = await visit.api.all(
            address("/v1/files", limit=_ROWS, after=after), address("/v1/vector_stores", limit=100)
        )
        rows: list[Any] = files.items()
        return await self._views.show(
            visit,
            "knowledge.html",
            files=files,
            rows=rows,
            stores=stores,
            following=str(rows[-1].get("id", "")) if rows and files.get("has_more") else "",
            after=after,
            chosen=store,
            found=found,
            question=question,
        )
