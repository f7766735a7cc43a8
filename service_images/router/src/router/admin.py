"""Operators' operations under /v1/admin: routes, weights, canaries and cached answers at run time.

A change overrides the configuration, and outlives restarts and updates, until it is taken back.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from kit import errors, rest_app
from kit.directory import Grant, Scope, unknown
from kit.errors import ApiError, missing
from kit.in_force import Replicas
from kit.rest import Call, Model, Operation
from pydantic import Field
from starlette.responses import Response
from starlette.types import ASGIApp

from router.control import Control
from router.core import Core
from router.documents import Documents
from router.overrides import Course, Override
from router.routes import ModelRoute
from router.selection import RouteState

PREFIX = "/v1/admin"
CHALLENGE = 'Basic realm="API key of an operator, as the password", charset="UTF-8"'
_MODEL = (("model", r".{1,256}", "A model's name"),)
_ROUTE = PREFIX + "/routes/{model:path}"
Reason = Annotated[str, Field(max_length=500)]


class Wanted(Model):
    """A route that replaces the configured one."""

    route: ModelRoute
    revision: int | None = Field(default=None, ge=0)
    """Change the route only if its override has this revision; 0: only if it has no override."""
    reason: Reason = ""


class Weights(Model):
    """Shares of the requests, for each target whose share changes."""

    weights: dict[str, Annotated[float, Field(ge=0, le=1_000_000)]] = Field(min_length=1, max_length=100)
    reason: Reason = ""


class Why(Model):
    """Reason for the audit log."""

    reason: Reason = ""


class Decision(Model):
    """Decision about a canary."""

    course: Course
    reason: Reason = ""


class Shown(Model):
    """A model's route."""

    model: str
    overridden: bool
    """Whether an operator has overridden the route. Otherwise it is configured or discovered."""
    in_force: bool
    """Whether every replica of the Router applies the route; a change takes under a second. Without NATS: itself."""
    replicas: Replicas | None = None
    """Router replicas that apply the route; null if NATS is unavailable or not used."""
    problem: str = ""
    """Why an override is not applied."""
    revision: int = 0
    by: str = ""
    at: datetime | None = None
    reason: str = ""
    route: ModelRoute | None = None
    """The route; null if the model is withdrawn."""
    configured: ModelRoute | None = None
    """The configured or discovered route that an operator's replaces; null if there is none."""


class Listed(Model):
    """All routes."""

    data: list[Shown]


def operations(api: Api) -> list[Operation]:
    """All operations."""
    may = {"scope": Scope.ADMIN}
    named = {**may, "parameters": _MODEL}
    change: dict[str, Any] = {**named, "failures": (404, 409)}
    return [
        Operation("GET", PREFIX + "/state", "Get the state of routes, targets and tenants.", api.state, **may),
        Operation("GET", PREFIX + "/openapi.json", "Get the OpenAPI document of all services.", api.openapi, **may),
        Operation("GET", PREFIX + "/docs", "Get the OpenAPI document as a page.", api.docs,
                  media="text/html", challenge=CHALLENGE, **may),
        Operation("GET", PREFIX + "/routes", "List all routes and overrides.", api.routes, Listed, **may),
        Operation("POST", PREFIX + "/cache/clear", "Clear the cache of answers.", api.clear, status=204,
                  failures=(409,), **may),
        Operation("PUT", _ROUTE + "/weights", "Change the weights of targets.", api.weights, Shown, body=Weights,
                  **change),
        Operation("POST", _ROUTE + "/withdraw", "Withdraw a model.", api.withdraw, Shown, body=Why,
                  **change),
        Operation("POST", _ROUTE + "/canary", "Promote, abort or restart a canary.", api.canary, body=Decision,
                  **change),
        Operation("GET", _ROUTE, "One route.", api.route, Shown, failures=(404,), **named),
        Operation("PUT", _ROUTE, "Override a route.", api.put, Shown, body=Wanted, **change),
        Operation("DELETE", _ROUTE, "Remove an override.", api.take_back,
                  status=204, **change),
    ]  # fmt: skip


def describe() -> dict[str, Any]:
    """OpenAPI document of these operations."""
    return rest_app.document("Router", operations(cast("Api", Api)))


def application(core: Core, control: Control | None, documents: Documents) -> ASGIApp:
    """The operations as an application. Without `control`, nothing can be changed."""

    async def authenticate(key: str) -> Grant:
        grant = core.accounts.grant_of(key.encode())
        if grant is None:
            raise unknown()
        return grant

    return rest_app.application(
        "Router", operations(Api(core, control, documents)), authenticate, exception_handlers=dict(errors.HANDLERS)
    )


class Api:
    """Handlers of one Router."""

    def __init__(self, core: Core, control: Control | None, documents: Documents) -> None:
        self._core, self._control, self._documents = core, control, documents

    @property
    def _writer(self) -> Control:
        if self._control is None:
            message = "This Router does not use NATS: change its route file instead."
            raise ApiError(409, message, code="not_live")
        return self._control

    async def _shown(self, model: str) -> Shown:
        control = self._control
        override = control.overrides.entries.get(model) if control else None
        live = self._core.table.find(model)
        if control is None or override is None:
            if live is None:
                raise missing("model")
            return await self._everywhere(Shown(model=model, overridden=False, in_force=True, route=live))
        problem = control.overrides.refused.get(model, "")
        configured = control.overrides.base.find(model)
        changed_by = {
            "by": override.by,
            "at": override.at,
            "reason": override.reason,
            "route": override.route,
            "configured": configured,
        }
        shown = Shown(
            model=model,
            overridden=True,
            in_force=not problem,
            problem=problem,
            revision=control.revision(model),
            **changed_by,
        )
        return await self._everywhere(shown)

    async def _everywhere(self, shown: Shown) -> Shown:
        if self._control is None:
            return shown
        where = await self._control.applied(shown.model)
        everywhere = shown.in_force and where is not None and where.everywhere
        return shown.model_copy(update={"in_force": everywhere, "replicas": where})

    async def openapi(self, call: Call[Any, None]) -> Response:
        """The enabled services' document; its server is the address that the caller has used."""
        headers = call.request.headers
        # In a mesh, the gateway sends the Router's name as the Host, and adds the caller's to what the caller sent.
        host = headers.get("x-forwarded-host", headers.get("host", "")).split(",")[-1].strip()
        content = await asyncio.to_thread(self._documents.document, f"https://{host}")
        return Response(content, media_type="application/json")

    async def docs(self, _: Call[Any, None]) -> Response:
        """The document for human readers."""
        content, policy = await asyncio.to_thread(lambda: self._documents.page)
        headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "vary": "authorization"}
        return Response(content, media_type="text/html", headers=headers)

    async def state(self, _: Call[Any, None]) -> dict[str, Any]:
        """State of the replica that answers."""
        return self._core.describe()

    async def routes(self, _: Call[Any, None]) -> Listed:
        """Sorted by name."""
        names = {route.model for route in self._core.table.routes}
        if self._control is not None:
            names |= self._control.overrides.entries.keys()
        return Listed(data=await asyncio.gather(*(self._shown(name) for name in sorted(names))))

    async def route(self, call: Call[Any, None]) -> Shown:
        """The route, and who changed it."""
        return await self._shown(call.path["model"])

    async def put(self, call: Call[Any, Wanted]) -> Shown:
        """Adds a model, or overrides the route of one."""
        model, body = call.path["model"], call.body
        if body.route.model != model:
            raise ApiError(400, f"route.model: must be {model}, as in the path", param="route.model")
        return await self._put(call, model, body.route, body.reason, body.revision)

    async def _put(
        self, call: Call[Any, Any], model: str, route: ModelRoute | None, reason: str, last: int | None
    ) -> Shown:
        override = Override(by=call.caller.actor, at=datetime.now(UTC), reason=reason, route=route)
        await self._writer.put(model, override, last, call.caller.tenant)
        return await self._shown(model)

    async def weights(self, call: Call[Any, Weights]) -> Shown:
        """Other properties of the route do not change."""
        model, weights = call.path["model"], call.body.weights
        writer = self._writer
        last, route = writer.revision(model), self._state(model).route
        labels = [target.label for target in route.servers]
        if unknown_ones := sorted(weights.keys() - set(labels)):
            known = ", ".join(labels)
            raise ApiError(400, f"weights: no target {', '.join(unknown_ones)}; known are {known}", param="weights")
        targets = [t.model_copy(update={"weight": weights.get(t.label, t.weight)}) for t in route.servers]
        if not any(target.weight for target in targets):
            message = "weights: all weights would be 0; withdraw the model instead"
            raise ApiError(400, message, param="weights")
        wanted = route.model_copy(update={"upstream": None, "upstream_model": "", "targets": tuple(targets)})
        return await self._put(call, model, wanted, call.body.reason, last)

    def _state(self, model: str) -> RouteState:
        state = self._core.routes.get(model)
        if state is None:
            raise missing("model")
        return state

    async def withdraw(self, call: Call[Any, Why]) -> Shown:
        """The model stays withdrawn until the change is taken back."""
        model = call.path["model"]
        writer = self._writer
        last = writer.revision(model)
        self._state(model)
        return await self._put(call, model, None, call.body.reason, last)

    async def take_back(self, call: Call[Any, None]) -> None:
        """Also removes an override that another operator has set meanwhile."""
        await self._writer.take_back(call.path["model"], call.caller.actor, call.caller.tenant)

    async def canary(self, call: Call[Any, Decision]) -> dict[str, Any]:
        """Applies to all replicas."""
        model, body = call.path["model"], call.body
        writer = self._writer
        trial = self._state(model).trial
        if trial is None:
            raise ApiError(409, f"{model} has no canary.", code="no_canary")
        await writer.decide(model, trial, body.course, call.caller.actor, body.reason, call.caller.tenant)
        return trial.describe()

    async def clear(self, call: Call[Any, None]) -> None:
        """Applies to all replicas."""
        await self._writer.clear(call.caller.actor, call.caller.tenant)
