"""Now, Map and Evidence: which services answer, what waits, what each one uses, and what the deployment runs."""

from __future__ import annotations

from dataclasses import replace

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
        operator = visit.session.operator
        letters = [part for part in visit.gateway.parts if part.letters] if operator else []
        paths = ["/v1/models", *(["/v1/admin/state"] if operator else [])]
        paths += [f"/v1/{part.name}/dead-letters?limit=1" for part in letters]
        models, *more = await visit.api.all(*paths)
        state, waiting = (more[0], more[1:]) if operator else (None, [])
        # A service that lists its dead letters answers, so it is not asked again.
        listed = {part.name: answer for part, answer in zip(letters, waiting, strict=True) if answer.ok}
        asked = await health(visit.api, listed)
        services = [replace(one, answer=listed.get(one.part.name, one.answer)) for one in asked]
        return await self._views.show(
            visit,
            "now.html",
            models=models,
            services=services,
            state=state,
            letters=[*zip(letters, waiting, strict=True)],
            waiting=waiting,
        )

    async def map(self, visit: Visit) -> Response:
        """The services and what they use, as a drawing and as a table."""
        services = await health(visit.api)
        return await self._views.show(visit, "map.html", services=services, drawing=drawn(services))

    async def evidence(self, visit: Visit) -> Response:
        """Digests of the images and the policies in force, for operators."""
        known = self._views.settings.evidence if visit.session.operator else None
        return await self._views.show(visit, "evidence.html", evidence=known)
