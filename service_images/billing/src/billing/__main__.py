"""Starts Billing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit import app, logs, rest, server, telemetry
from kit.bus import Bus
from kit.database import Database
from kit.kafka import Events
from kit.settings import ServiceSettings
from starlette.applications import Starlette

from billing import intake
from billing.api import Api
from billing.budgets import Budgets

TOPIC = "usage.recorded.v1"


class BillingSettings(ServiceSettings):
    """Billing's settings."""

    name: str = "billing"


def create(settings: BillingSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    bus = Bus(settings) if settings.nats_url else None

    async def take(batch: object) -> None:
        await intake.take(database, batch)  # pyright: ignore[reportArgumentType]

    follower = Events(settings, [TOPIC], take) if settings.kafka_bootstrap else None
    budgets = Budgets(database, bus) if bus else None

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await database.open()
        tasks = [asyncio.create_task(part.run()) for part in (follower, budgets) if part is not None]
        yield
        for task in tasks:
            task.cancel()
        if bus:
            await bus.close()
        await database.close()

    checks: dict[str, app.Check] = {"postgres": database.check}
    if follower:
        checks["kafka"] = follower.check
    return app.create(rest.routes("Billing", Api(database).operations()), checks, lifespan)


def main() -> int:
    """Serve."""
    settings = BillingSettings()
    logs.configure(settings)
    telemetry.configure_tracing(settings)
    server.run(create(settings), settings)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
