"""Routes: which targets answer a model, what operators have changed, how canaries go, and how targets do."""

from __future__ import annotations

import difflib
import json
from typing import Any

from kit.errors import ApiError
from kit.rest import Model
from pydantic import Field
from starlette.responses import Response

from portal.gateway import Answer, address
from portal.view import PREFIX, Views, Visit, done, paged

PATH = f"{PREFIX}/routes"
COURSES = {"promoted": "Promote", "aborted": "Abort", "running": "Restart"}
"""Decisions about a canary, with the text of their buttons."""


class Page(Model):
    """What the page shows."""

    page: int = Field(default=1, ge=1, le=100_000, description="Page of the list of routes")


class Routes:
    """The page and its actions."""

    def __init__(self, views: Views) -> None:
        self._views = views

    async def show(self, visit: Visit) -> Response:
        """Operators see routes and states; others see the models that they may ask."""
        if not visit.session.operator:
            models = await visit.api.get("/v1/models")
            rows = paged(models.items(), visit.call.query.page)
            return await self._views.show(visit, "models.html", models=models, paged=rows)
        models, routes, state = await visit.api.all("/v1/models", "/v1/admin/routes", "/v1/admin/state")
        states: Any = state.get("routes", {})
        rows = [_row(one, states.get(one.get("model"), {})) for one in routes.items()]
        return await self._views.show(
            visit,
            "routes.html",
            models=models,
            routes=routes,
            state=state,
            paged=paged(rows, visit.call.query.page),
            courses=COURSES,
        )

    async def undo(self, visit: Visit) -> Response:
        """Remove what operators have set for a model."""
        model = visit.form.get("model", "")
        return await self._done(visit, await visit.api.call("DELETE", address("/v1/admin/routes/{}", model)))

    async def decide(self, visit: Visit) -> Response:
        """Promote, abort or restart a canary."""
        model, course = visit.form.get("model", ""), visit.form.get("course", "")
        if course not in COURSES:
            raise ApiError(400, f"course: it is one of {', '.join(COURSES)}", param="course")
        body = {"course": course, "reason": visit.form.get("reason", "")}
        return await self._done(visit, await visit.api.call("POST", address("/v1/admin/routes/{}/canary", model), body))

    async def weights(self, visit: Visit) -> Response:
        """Set the shares of a model's targets."""
        found: dict[str, float] = {}
        for name, value in visit.form.items():
            if name.startswith("weight-") and value.strip():
                try:
                    found[name.removeprefix("weight-")] = float(value)
                except ValueError:
                    raise ApiError(400, f"{name}: it is not a number", param=name) from None
        body = {"weights": found, "reason": visit.form.get("reason", "")}
        path = address("/v1/admin/routes/{}/weights", visit.form.get("model", ""))
        return await self._done(visit, await visit.api.call("PUT", path, body))

    async def _done(self, visit: Visit, answer: Answer) -> Response:
        return done(PATH) if answer.ok else await self._views.refuse(visit, answer, PATH)


def _row(shown: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """A route with its targets and their scores, and how it differs from the configured one."""
    route: dict[str, Any] = shown.get("route") or {}
    scores: dict[str, Any] = state.get("targets", {})
    targets = [
        {"name": name, "weight": target.get("weight"), "score": scores.get(name, {})}
        for target in _targets(route, scores)
        for name in [str(target.get("name") or target.get("upstream") or "")]
    ]
    return {
        "shown": shown,
        "strategy": route.get("strategy", state.get("strategy", "")),
        "targets": targets,
        "canary": state.get("canary"),
        "diff": _diff(shown.get("configured"), shown.get("route")) if shown.get("overridden") else [],
    }


def _targets(route: dict[str, Any], scores: dict[str, Any]) -> list[dict[str, Any]]:
    """The targets; a route with one upstream has one, whose name the Router's state gives."""
    if upstream := route.get("upstream"):
        return [{"name": name, "weight": 1} for name in scores or [upstream]]
    return route.get("targets") or []


def _diff(configured: object, current: object) -> list[str]:
    """Lines of the difference from the configured route to the current one."""
    old, new = (json.dumps(one, indent=2, sort_keys=True).splitlines() if one else [] for one in (configured, current))
    return list(difflib.unified_diff(old, new, "configured", "in force", lineterm="", n=2))
