"""The query behind a number: the same request to the API, with the reader's key, and its answer as received."""

from __future__ import annotations

import json

from kit.errors import ApiError
from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal.view import Views, Visit

_SHOWN = 60_000
"""Characters of an answer that a page shows."""
_NOT = ("/v1/login", "/v1/callback")
"""Paths that belong to a browser's login."""


class Asked(Model):
    """The query."""

    path: str = Field(max_length=4000, pattern=r"^/(v1|openapi)/[!-~]*$", description="Path of the API, with its query")


class Queries:
    """The page."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """Ask again, and show the answer."""
        path: str = visit.call.query.path
        if path.startswith(_NOT) or ".." in path:
            raise ApiError(400, "path: it is not a query of the API", param="path")
        answer = await visit.api.get(path)
        text = answer.text
        if answer.content is not None:
            text = json.dumps(answer.content, indent=2, ensure_ascii=False)
        return await self._views.show(
            visit,
            "query.html",
            answer=answer,
            text=text[:_SHOWN],
            cut=len(text) > _SHOWN,
            public=self._views.settings.public_url,
        )
