"""A service's application: its routes plus health, metrics, errors and request context."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kit import errors, logs, telemetry
from kit.drain import DRAIN

Check = Callable[[], Awaitable[str | None]]
"""A readiness check. Returns None if ready, otherwise the missing condition."""

log = logs.get("kit.access")
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,128}$")
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"))
_QUIET = {"/healthz", "/readyz", "/metrics"}


class RequestContext:
    """Gives each request an ID, a span, metrics and one log line. Pure ASGI, so streams pass through unbuffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = trace.get_tracer("kit")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event."""
        if scope["type"] != "http" or scope["path"] in _QUIET:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                if all(name != b"cache-control" for name, _ in message["headers"]):
                    message["headers"].append((b"cache-control", b"no-store"))  # for the key's holder only
                if DRAIN.begun:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        telemetry.IN_FLIGHT.inc()
        parent = telemetry.from_outside(dict(request.headers))
        route = _route_of(scope)
        # Clients may send any method: an unknown one must not become a label value. Source: OpenTelemetry's "_OTHER".
        method = request.method if request.method in _METHODS else "_OTHER"
        name = f"{method} {route}"
        marked = {telemetry.ENTRANCE: True}
        with self._tracer.start_as_current_span(name, context=parent, kind=SpanKind.SERVER, attributes=marked) as span:
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - started
                span.set_attributes({"http.request.method": method, "http.route": route})
                span.set_attribute("http.response.status_code", status)
                if status >= 500:
                    span.set_status(Status(StatusCode.ERROR))
                telemetry.IN_FLIGHT.dec()
                telemetry.REQUESTS.labels(method, route, str(status)).inc()
                telemetry.DURATION.labels(method, route).observe(seconds)
                log.info("request", method=method, route=route, status=status, duration_s=round(seconds, 4))


def _route_of(scope: Scope) -> str:
    """The route's template, not the raw path, which would give metrics an unlimited number of label values."""
    application = scope.get("app")
    for route in application.routes if application else ():
        if isinstance(route, Route) and route.matches(scope)[0] is not Match.NONE:
            return route.path
    return "(unknown)"


def _health(checks: dict[str, Check]) -> list[BaseRoute]:
    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        failing = {name: reason for name, check in checks.items() if (reason := await check())}
        return JSONResponse({"status": "not ready" if failing else "ok", "failing": failing}, 503 if failing else 200)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", telemetry.metrics)]


def create(
    routes: Sequence[BaseRoute],
    checks: dict[str, Check],
    lifespan: Callable[[Starlette], AbstractAsyncContextManager[None]] | None = None,
    framework: Callable[..., Starlette] = Starlette,
) -> Starlette:
    """Create the application of a service from its `routes` and readiness `checks` with the class `framework`."""
    return framework(
        routes=[*_health(checks), *routes],
        middleware=[Middleware(RequestContext)],
        exception_handlers=dict(errors.HANDLERS),
        lifespan=lifespan,
    )
