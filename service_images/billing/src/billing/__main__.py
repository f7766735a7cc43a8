"""Entry point of the Billing service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kit import dead_letters, replicas, service
from kit.bus import Bus
from kit.database import Database
from kit.dead_letters import DeadLetters
from kit.in_force import InForce
from kit.kafka import Events, retrying
from kit.retention import Retention
from kit.settings import ServiceSettings
from kit.tenant_deletion import Erasing
from pydantic import Field
from starlette.applications import Starlette

from billing import erasing, expiring, intake
from billing.api import PREFIX, Api, UsageEvent
from billing.budgets import BUCKET, Budgets

TOPIC = "usage.recorded.v1"


class BillingSettings(ServiceSettings):
    """Settings of the Billing service."""

    name: str = "billing"
    keep_names_days: int = Field(default=0, ge=0)
    """Days that names of users are kept after invoicing; 0 means forever, here and in the following settings."""
    keep_usage_days: int = Field(default=0, ge=0)
    """Days that single usage records are kept after invoicing."""
    keep_invoices_days: int = Field(default=0, ge=0)
    """Days that invoices and credits are kept."""


def consumer(settings: BillingSettings, database: Database) -> tuple[Events | None, DeadLetters]:
    """The consumer of usage events, if Kafka is enabled, and its dead letters."""

    async def take(batch: Sequence[dict[str, Any]]) -> None:
        await intake.take(database, batch)

    letters = DeadLetters(database, retrying(take, UsageEvent))
    return Events(settings, [TOPIC], take, letters, UsageEvent) if settings.kafka_bootstrap else None, letters


def create(settings: BillingSettings) -> Starlette:
    """The application."""
    database = Database(settings)
    bus = Bus(settings) if settings.nats_url else None

    in_force = InForce(bus, BUCKET) if bus else None
    callers = service.callers(settings)
    follower, letters = consumer(settings, database)
    deletions = Erasing(
        database, settings.name, erasing.erase, lambda tenant: callers is not None and tenant in callers.tenants
    )
    deleted = deletions.events(settings, letters)
    kept = expiring.expiring(settings.keep_names_days, settings.keep_usage_days, settings.keep_invoices_days)
    retention = Retention(database, *kept)
    return service.create(
        "Billing",
        [
            *Api(database, in_force).operations(),
            *dead_letters.operations(PREFIX, letters),
            *replicas.operations(PREFIX, in_force),
        ],
        database=database,
        beside=[
            part
            for part in (
                follower,
                deleted,
                letters,
                retention,
                callers,
                in_force,
                Budgets(database, bus) if bus else None,
            )
            if part is not None
        ],
        close=[bus.close] if bus else [],
        checks={"kafka": follower.check} if follower else {},
        authenticate=callers.authenticate if callers else None,
    )


def main() -> int:
    """Serve."""
    return service.main(BillingSettings(), create)


if __name__ == "__main__":
    raise SystemExit(main())
