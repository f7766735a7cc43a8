"""Assembles a service: its operations, background tasks, and resources with a lifetime."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

from starlette.applications import Starlette

from kit import app, bus, identity, logs, rest_app, server, telemetry
from kit.database import Database
from kit.directory import Directory
from kit.errors import ApiError
from kit.repeats import Repeats
from kit.rest import Authenticate, Operation
from kit.settings import ServiceSettings

log = logs.get("kit.service")
_END_S = 10.0
"""Seconds for background tasks to end. Shorter than the pod's termination grace period."""
_AGAIN_S = 1.0
Settings = TypeVar("Settings", bound=ServiceSettings)


class Runs(Protocol):
    """A background task of a service."""

    async def run(self) -> None:
        """Run until cancelled."""
        ...


def create(
    title: str,
    operations: Sequence[Operation],
    *,
    database: Database | None = None,
    beside: Sequence[Runs] = (),
    close: Sequence[Callable[[], Awaitable[None]]] = (),
    checks: dict[str, app.Check] | None = None,
    authenticate: Authenticate | None = None,
) -> Starlette:
    """The application. It opens the database and then starts background tasks; it closes them in reverse order."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if database is not None:
                await database.open()
                stack.push_async_callback(database.close)
            for closing in close:
                stack.push_async_callback(closing)
            tasks = [asyncio.create_task(part.run()) for part in beside]
            for task in tasks:
                task.add_done_callback(_ended)
            stack.push_async_callback(_end, tasks)
            yield

    found: dict[str, app.Check] = {"postgres": database.check} if database is not None else {}
    repeats = Repeats(database) if database is not None else None
    framework = functools.partial(rest_app.application, title, operations, authenticate, repeats)
    return app.create((), found | (checks or {}), lifespan, framework)


class Once:
    """A task that must succeed before the service is ready. Retried while a dependency is unavailable."""

    def __init__(self, work: Callable[[], Awaitable[None]], reason: str) -> None:
        self._work, self._reason = work, reason
        self._done = False

    async def run(self) -> None:
        """Run until the task succeeds."""
        while not self._done:
            try:
                await self._work()
                self._done = True
            except ApiError:
                await asyncio.sleep(_AGAIN_S)

    async def check(self) -> str | None:
        """Readiness: None once the task has succeeded, otherwise the reason."""
        return None if self._done else self._reason


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel background tasks and wait for their cleanup, which needs the resources that are closed next."""
    for task in tasks:
        task.cancel()
    if tasks and (slow := (await asyncio.wait(tasks, timeout=_END_S))[1]):
        log.warning("background tasks did not end", count=len(slow), after_s=_END_S)


def _ended(task: asyncio.Task[None]) -> None:
    """Log a background task that ended on its own, which is an error."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task has ended", exc_info=error)


def callers(settings: ServiceSettings) -> Directory | None:
    """The directory of callers, if API keys are enabled."""
    return Directory(settings.nats_url, bus.options(settings)) if settings.tenants else None


def main(settings: Settings, application: Callable[[Settings], Starlette]) -> int:
    """Set up logs, traces and service tokens, then serve until the process receives a stop signal."""
    logs.configure(settings)
    telemetry.configure_tracing(settings)
    identity.configure(settings)
    server.run(application(settings), settings)
    return 0
