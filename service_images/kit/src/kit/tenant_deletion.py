"""Deletion of tenants: each service with tenant data erases it, and acknowledges that to User.

User publishes `tenant.deleted.v1` once per tenant; the ID is never used again. A service erases the tenant's data,
except for records that the law requires, in one transaction with its acknowledgement, the event `tenant.erased.v1`. A
repeated event is acknowledged again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from kit import logs, outbox
from kit.database import Connection, Database
from kit.dead_letters import DeadLetters
from kit.errors import unavailable
from kit.kafka import Events, retrying
from kit.settings import ServiceSettings

log = logs.get("kit.tenant_deletion")
DELETED, ERASED = "tenant.deleted.v1", "tenant.erased.v1"
PATIENCE_S = 30.0
"""Seconds to wait until this replica knows that the tenant's keys are revoked, which takes about a second."""
_LOOK_S = 0.1
Erase = Callable[[Connection, str], Awaitable[None]]
"""Deletes a tenant's data in a transaction. Can be repeated."""


class _Deletion(BaseModel):
    tenant: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class Deleted(BaseModel):
    """The fields of the event that services read."""

    data: _Deletion


class _Erasure(_Deletion):
    service: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class Erased(BaseModel):
    """The fields of the acknowledgement that User reads."""

    data: _Erasure


class Erasing:
    """A service's part in deletions. `handle` is for `kafka.Events`, with the model `Deleted`."""

    def __init__(
        self, database: Database, service: str, erase: Erase, known: Callable[[str], bool] = lambda _: False
    ) -> None:
        """`known`: whether this replica still accepts requests of a tenant, which could write after the erasure."""
        self._database, self._service, self._erase, self._known = database, service, erase, known

    def events(self, settings: ServiceSettings, letters: DeadLetters) -> Events | None:
        """The consumer of deletions, if Kafka is enabled. Failed ones can be retried from the dead letters."""
        letters.also(DELETED, retrying(self.handle, Deleted))
        return Events(settings, [DELETED], self.handle, letters, Deleted) if settings.kafka_bootstrap else None

    async def handle(self, batch: Sequence[dict[str, Any]]) -> None:
        """Erase the tenants of a batch of events. Raises ApiError(503) while a tenant's keys are still known."""
        for event in batch:
            tenant = event["data"]["tenant"]
            deadline = time.monotonic() + PATIENCE_S
            while self._known(tenant):
                if time.monotonic() > deadline:
                    raise unavailable(f"NATS, which announces the deletion of tenant {tenant},")
                await asyncio.sleep(_LOOK_S)
            async with self._database.transaction() as connection:
                await forget(connection, tenant)
                await self._erase(connection, tenant)
                await outbox.put(
                    connection, ERASED, self._service, tenant, {"tenant": tenant, "service": self._service}
                )
            log.info("a tenant is erased", tenant=tenant)


async def forget(connection: Connection, tenant: str) -> None:
    """Delete a tenant's dead letters. Their keys are the tenant's ID, or begin with it and a slash.

    The dead letter of the deletion itself stays, since its retry may be calling this.
    """
    own = tenant.encode()
    below = own + b"/"
    await connection.execute(
        "DELETE FROM dead_letters WHERE topic <> %s AND (key = %s OR substring(key FOR %s) = %s)",
        (DELETED, own, len(below), below),
    )
