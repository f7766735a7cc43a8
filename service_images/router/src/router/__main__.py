"""Starts the Router."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from kit import app, bus, identity, logs, server, telemetry
from kit.settings import LogLevel, ServiceSettings
from pydantic import Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router.api import RouterApi
from router.core import Core
from router.documents import Documents
from router.front import Front
from router.live import LiveRoutes
from router.measure import Measures
from router.overrides import Overrides
from router.routes import RouteTableError, load
from router.shared import SharedLimits
from router.tenants import Tenants

if TYPE_CHECKING:
    from router.control import Control

log = logs.get("router")


class RouterSettings(ServiceSettings):
    """Settings of the Router."""

    name: str = "router"
    routes_file: Path = Path("/etc/router/routes.json")
    guardrails: str = ""
    """host:port of Guardrails' gRPC; empty disables checks."""
    guard_late_milliseconds: int = Field(default=500, ge=10, le=60_000)
    """Seconds after which held-back text of a stream is released, if its next piece has not arrived."""
    embeddings: str = ""
    """host:port of the Embeddings service's gRPC; empty disables the semantic cache."""
    prompt: str = ""
    """host:port of Prompt's gRPC; empty: requests cannot name stored prompts."""
    user: str = ""
    """host:port of User's gRPC; empty: after `key_grace_seconds` without NATS, keys are refused."""
    keys_bound_seconds: float = Field(default=300, ge=1)
    """Seconds for which known keys stay valid while NATS is unavailable and revocations do not arrive."""
    calls: bool = False
    """Whether to serve gRPC for other services, at `rpc_port`."""
    spill_folder: Path = Path("/tmp/usage")
    """Folder for usage events that wait while Kafka is unavailable."""
    spill_bytes: int = Field(default=48 * 2**20, ge=0)
    """Maximum size of that folder; a request needs 450 bytes."""
    documents_folder: Path = Path("/opt/app/openapi")
    """Folder with the OpenAPI documents of all services."""
    documents: tuple[str, ...] = ()
    """Services whose documents operators can read here, by name."""
    discover: bool = False
    """Whether to discover models that KServe serves in this namespace."""


class Follower(Protocol):
    """A background task."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


class Admin:
    """The operators' operations, loaded on first use, since most Routers never need their memory."""

    def __init__(self, core: Core, control: Control | None, documents: Documents) -> None:
        self._core, self._control, self._documents = core, control, documents
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if self._app is None:
            from router import admin

            self._app = admin.application(self._core, self._control, self._documents)
        await self._app(scope, receive, send)


def create(
    core: Core,
    *followers: Follower,
    control: Control | None = None,
    checks: Mapping[str, app.Check] = MappingProxyType({}),
    documents: Documents | None = None,
) -> Starlette:
    """The application beside the fast path. `control` changes routes at run time; `checks` decide readiness.

    `documents`: OpenAPI documents for operators; None serves none.
    """
    api = RouterApi(core)
    if control is not None:
        followers = (*followers, control, control.in_force)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        following = [asyncio.create_task(follower.run()) for follower in followers]
        for task in following:
            task.add_done_callback(_ended)
        yield
        for task in following:
            task.cancel()
        # Pending messages must be sent before the tasks end.
        await asyncio.gather(*following, return_exceptions=True)
        core.measures.flush()

    async def describe(_: Request) -> Response:
        from router import openapi  # half a megabyte that is seldom needed

        return Response(openapi.written(), media_type="application/json")

    operator = Route("/v1/admin/{operation:path}", Admin(core, control, documents or Documents(Path(), ())))
    routes = [*api.routes(), operator, Route("/openapi.json", describe)]
    return app.create(routes, {"upstreams": api.upstreams, **checks}, lifespan)


def _ended(task: asyncio.Task[None]) -> None:
    """Log a background task that ended on its own, which is an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task has ended", exc_info=error)


def main() -> int:
    """Serve. An invalid route table is one line on standard error and exit status 1."""
    settings = RouterSettings()
    logs.configure(settings)
    telemetry.configure_tracing(settings)
    identity.configure(settings)
    try:
        table = load(settings.routes_file)
    except RouteTableError as error:
        print(error, file=sys.stderr)
        return 1
    wanted = settings.log_level in (LogLevel.DEBUG, LogLevel.INFO)
    measures = Measures(
        tracing=bool(settings.otlp_endpoint),
        logging=wanted,
        ratio=settings.trace_sample_ratio,
        gateway=settings.gateway_traces,
    )
    measures.register()
    core = Core(table, measures)
    # Objects loaded now stay. Requests create no reference cycles, so the collector need not run often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    followers: list[Follower] = []
    checks: dict[str, app.Check] = {}
    overrides = Overrides(table, core.reload)
    take, control = overrides.rebase, None
    if settings.discover:
        from router.discovery import Discovery  # its libraries need memory, which other Routers save

        discovery = Discovery.in_cluster(table)
        discovery.changed = overrides.rebase
        take = discovery.rebase
        followers.append(discovery)
    if settings.nats_url:
        # NATS delivers route tables, tenants and budgets, and shares limits. Without it, the Router uses the file and
        # its own counts.
        from router.control import Control

        login = bus.options(settings)
        live = LiveRoutes(settings.nats_url, core, overrides, take, login)
        control = Control(core, overrides, live, bus.Bus(settings))
        followers.append(live)
        followers.append(SharedLimits(settings.nats_url, core, login))
        from router.confirming import Confirming

        tenants = Tenants(settings.nats_url, core, login)
        core.confirming = Confirming(settings.user, settings.keys_bound_seconds, tenants.away_since)
        followers.append(tenants)
    if settings.guardrails:
        from router.guard import Guard  # its libraries need memory, too

        core.guard = Guard(settings.guardrails, settings.guard_late_milliseconds / 1000)
    if settings.embeddings:
        from router.semantic import SemanticCache

        core.semantic = SemanticCache(settings.embeddings)
    if settings.prompt:
        from router.prompts import Prompts

        core.prompts = Prompts(settings.prompt)
        if settings.nats_url:
            followers.append(core.prompts.labels(settings.nats_url, bus.options(settings)))
    if settings.calls:
        from kit import rpc

        from router.calls import Calls

        calls = rpc.Server(settings, Calls(core).add)
        followers.append(calls)
        checks["callers"] = calls.check
    if settings.kafka_bootstrap:
        from kit import kafka
        from kit.spill import Spill

        from router.metering import Metering  # its library needs memory, which a Router without Kafka saves

        spill = Spill(settings.spill_folder, settings.spill_bytes)
        core.metering = Metering(kafka.client(settings), spill, "route.changed.v1")
        followers.append(core.metering)
    documents = Documents(settings.documents_folder, settings.documents)
    application = create(core, *followers, control=control, checks=checks, documents=documents)
    server.run(application, settings, Front.of(core))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
