"""Changes routes at run time: writes them to NATS, from which all replicas read them, and publishes them for Audit.

It also publishes canaries that one replica has withdrawn, so that they stay withdrawn in all replicas and after
restarts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

from kit import events, logs, telemetry
from kit.bus import Bus, Conflict, key
from kit.errors import ApiError, ErrorType, missing, unavailable
from kit.in_force import InForce, Replicas
from nats.errors import Error as NatsError
from pydantic import BaseModel

from router.core import Core
from router.live import BUCKET, CACHE, CANARY, ROUTE, LiveRoutes
from router.overrides import Course, Override, Overrides, Verdict, compose
from router.selection import Trial

log = logs.get("router.control")
TOPIC = "route.changed.v1"
ITSELF = "service:router"
"""Actor in the audit log for canaries that failed."""
_EVERY_S = 0.5
_Result = TypeVar("_Result")


class Control:
    """Writer of the bucket that `LiveRoutes` follows."""

    def __init__(self, core: Core, overrides: Overrides, live: LiveRoutes, bus: Bus) -> None:
        self.core, self.overrides, self._live, self._bus = core, overrides, live, bus
        self.in_force = InForce(bus, BUCKET)
        """State of the replicas; a background task updates it."""

    async def run(self) -> None:
        """Publish canaries that have failed here until cancelled. Failed publications are retried."""
        try:
            while True:
                await asyncio.sleep(_EVERY_S)
                for model, state in list(self.core.routes.items()):
                    if state.trial is not None and state.trial.untold:
                        await self._tell_failure(model, state.trial)
        finally:
            await self._bus.close()

    async def _tell_failure(self, model: str, trial: Trial) -> None:
        try:
            await self.decide(model, trial, Course.ABORTED, ITSELF, trial.failed)
        except ApiError as error:
            log.warning("cannot publish the failure of a canary yet", model=model, reason=error.message)

    def revision(self, model: str) -> int:
        """Revision of a model's override; 0 if there is none."""
        return self._live.revision(key(ROUTE, model))

    async def applied(self, model: str) -> Replicas | None:
        """Replicas that have applied a model's override or its removal; None if NATS is unavailable."""
        _, where = await self.in_force.of(BUCKET, key(ROUTE, model))
        return where

    async def put(self, model: str, override: Override, last: int | None, tenant: str) -> None:
        """Override a model's route, if the current override has the revision `last`.

        Raises ApiError: 400 if it does not fit the other routes, 409 for another revision, 503 without NATS.
        """
        _, refused = compose(self.overrides.base, {**self.overrides.entries, model: override})
        if new := dict(refused.items() - self.overrides.refused.items()):
            raise ApiError(400, "; ".join(f"{name}: {reason}" for name, reason in sorted(new.items())), param="route")
        change = "set" if override.route is not None else "withdrawn"
        await self._write(key(ROUTE, model), override, last)
        route = override.route.model_dump(mode="json", exclude_defaults=True) if override.route else None
        self._publish(tenant, f"route/{model}", change, override.by, override.reason, route=route)

    async def take_back(self, model: str, by: str, tenant: str) -> None:
        """Remove an override. Raises ApiError: 404 if there is none, 503 without NATS."""
        name = key(ROUTE, model)
        if not self._live.revision(name):
            raise missing("override")
        await self._asked(self._bus.delete(BUCKET, name))
        await self._live.reached(name, 0)
        self._publish(tenant, f"route/{model}", "deleted", by)

    async def decide(self, model: str, trial: Trial, course: Course, by: str, reason: str, tenant: str = "") -> None:
        """Decide about a canary in all replicas. Raises ApiError(503) without NATS."""
        verdict = Verdict(by=by, at=datetime.now(UTC), reason=reason, trial=trial.digest, course=course)
        await self._write(key(CANARY, model), verdict)
        self._publish(tenant, f"route/{model}", f"canary-{course.value}", by, reason, canary=course.value)

    async def clear(self, by: str, tenant: str) -> None:
        """Drop all cached answers in all replicas. Raises ApiError(503) without NATS."""
        revision = await self._asked(self._bus.put(BUCKET, CACHE, str(time.time()).encode()))
        await self._live.reached(CACHE, revision)
        self._publish(tenant, "cache", "cache-cleared", by)

    async def _write(self, name: str, content: BaseModel, last: int | None = None) -> None:
        """Returns once this replica has applied the value; others do within a second."""
        value = content.model_dump_json(exclude_none=True).encode()
        await self._live.reached(name, await self._asked(self._bus.put(BUCKET, name, value, last)))

    @staticmethod
    async def _asked(asked: Awaitable[_Result]) -> _Result:
        try:
            return await asked
        except Conflict:
            message = "The route was changed meanwhile. Read it again."
            raise ApiError(409, message, ErrorType.INVALID_REQUEST, param="revision", code="conflict") from None
        except (NatsError, OSError, TimeoutError):
            raise unavailable("NATS") from None

    def _publish(self, tenant: str, subject: str, change: str, by: str, reason: str = "", **after: Any) -> None:
        """Publish a change for Audit. `after`: the fields with their new values."""
        log.info("a route was changed", subject=subject, change=change, by=by, reason=reason)
        if self.core.metering is None:
            return
        data = {"tenant": tenant or "default", "change": change, "actor": by, "reason": reason, "after": after}
        event = events.event(TOPIC, "router", subject, data, telemetry.traceparent())
        self.core.metering.tell(TOPIC, data["tenant"], event)
