"""Now and Map: which services answer, how fast, what waits, and what each one uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from portal.diagram import drawn
from portal.gateway import Answer, Reader
from portal.topology import Part
from portal.view import Views, Visit


@dataclass(frozen=True)
class Health:
    """Whether a service answers."""

    part: Part
    answer: Answer | None
    """Answer to a request for its document. None: the service has none, so nothing was asked."""

    @property
    def state(self) -> str:
        """The state, in a word or two."""
        if self.answer is None:
            return "not known"
        if self.answer.ok:
            return "answers"
        return "does not answer" if self.answer.away else f"refuses ({self.answer.status})"

    @property
    def good(self) -> bool | None:
        """Whether all is well. None: not known."""
        return None if self.answer is None else self.answer.ok


async def health(api: Reader) -> list[Health]:
    """Asks each service for its document, which needs no key."""
    parts = api.gateway.parts
    asked = [part for part in parts if part.document]
    answers = dict(
        zip((part.name for part in asked), await api.probe([f"/openapi/{one.name}.json" for one in asked]), strict=True)
    )
    return [Health(part, answers.get(part.name)) for part in parts]


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
