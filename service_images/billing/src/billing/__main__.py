"""Starts Billing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit import dead_letters, service
from kit.bus import Bus
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.kafka import Events, retrying
from kit.settings import ServiceSettings
from starlette.applications import Starlette

from billing import intake
from billing.api import PREFIX, Api, UsageEvent
from billing.budgets import Budgets

TOPIC = "usage.recorded.v1"


class BillingSettings(ServiceSettings):
    """Billing's settings."""

    name: str = "billing"


def create(settings: BillingSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    bus = Bus(settings) if settings.nats_url else None

    async def take(batch: Sequence[dict[str, Any]]) -> None:
        await intake.take(database, batch)

    callers = service.callers(settings)
    letters = DeadLetters(database, retrying(take, UsageEvent))
    follower = Events(settings, [TOPIC], take, letters, UsageEvent) if settings.kafka_bootstrap else None
    return service.create(
        "Billing",
        [*Api(database).operations(), *dead_letters.operations(PREFIX, letters)],
        database=database,
        beside=[part for part in (follower, letters, callers, Budgets(database, bus) if bus else None) if part],
        close=[bus.close] if bus else [],
        checks={"kafka": follower.check} if follower else {},
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(BillingSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
