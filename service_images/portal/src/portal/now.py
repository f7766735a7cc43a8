"""Now and Map: which services answer, how fast, what waits, and what each one uses."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from portal.diagram import drawn
from portal.health import health
from portal.view import Views, Visit


class Now:
    """The pages."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def now(self, visit: Visit) -> Response:
        """Services and models; for operators also what waits for them."""
        api, more = visit.api, dict[str, Any]()
        paths = ["/v1/models"]
        if visit.session.operator:
            letters = [part for part in visit.gateway.parts if part.letters]
            paths += ["/v1/admin/state", *(f"/v1/{part.name}/dead-letters?limit=1" for part in letters)]
            models, state, *waiting = await api.all(*paths)
            more = {"state": state, "letters": [*zip(letters, waiting, strict=True)], "waiting": waiting}
        else:
            (models,) = await api.all(*paths)
            more = {"state": None, "letters": [], "waiting": []}
        services = await health(api)
        return await self._views.show(visit, "now.html", models=models, services=services, **more)

    async def map(self, visit: Visit) -> Response:
        """The services and what they use, as a drawing and as a table."""
        services = await health(visit.api)
        return await self._views.show(visit, "map.html", services=services, drawing=drawn(services))
