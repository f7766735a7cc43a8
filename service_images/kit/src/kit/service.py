"""A service put together: its operations, what runs beside them, and what has to be open meanwhile."""

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
"""For what runs beside the requests to end. Below the time that a pod has for its end."""
_AGAIN_S = 1.0
Settings = TypeVar("Settings", bound=ServiceSettings)


class Runs(Protocol):
    """What goes on beside the requests."""

    async def run(self) -> None:
        """For ever."""
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
    """The application. Opened: the database, then what runs beside; closed the other way round."""

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
    """What has to be done before a service is ready: tried again as long as something that it needs is away."""

    def __init__(self, work: Callable[[], Awaitable[None]], reason: str) -> None:
        self._work, self._reason = work, reason
        self._done = False

    async def run(self) -> None:
        """Until it is done."""
        while not self._done:
            try:
                await self._work()
                self._done = True
            except ApiError:
                await asyncio.sleep(_AGAIN_S)

    async def check(self) -> str | None:
        """Readiness: the reason, as long as it is not done."""
        return None if self._done else self._reason


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what runs, and wait until it has put in order what it had begun: it needs what is closed next."""
    for task in tasks:
        task.cancel()
    if tasks and (slow := (await asyncio.wait(tasks, timeout=_END_S))[1]):
        log.warning("parts of the service did not end", count=len(slow), after_s=_END_S)


def _ended(task: asyncio.Task[None]) -> None:
    """What runs for ever has ended: a fault of ours, and not to be kept quiet."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a part of the service has ended", exc_info=error)


def callers(settings: ServiceSettings) -> Directory | None:
    """Who may call, where callers show keys."""
    return Directory(settings.nats_url, bus.options(settings)) if settings.tenants else None


def main(settings: Settings, application: Callable[[Settings], Starlette]) -> int:
    """Logs, traces and the own tokens before anything else; then serve until the process is told to stop."""
    logs.configure(settings)
    telemetry.configure_tracing(settings)
    identity.configure(settings)
    server.run(application(settings), settings)
    return 0
