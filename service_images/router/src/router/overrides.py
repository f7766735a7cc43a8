"""Overrides of configured routes that operators have set at run time, by model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum

from kit import logs
from pydantic import BaseModel, ConfigDict

from router.routes import ModelRoute, RouteTable

log = logs.get("router.overrides")


class _Kept(BaseModel):
    """A value of the bucket. Fields of later versions are ignored."""

    model_config = ConfigDict(frozen=True)

    by: str
    """Actor, as in the audit log."""
    at: datetime
    reason: str = ""


class Override(_Kept):
    """A route that replaces a model's own; without a route, the model is withdrawn."""

    route: ModelRoute | None = None


class Course(StrEnum):
    """Decision about a canary."""

    RUNNING = "running"
    """Restart with the first step."""
    PROMOTED = "promoted"
    """Promote: it receives all requests."""
    ABORTED = "aborted"
    """Abort: it receives no requests."""


class Verdict(_Kept):
    """A decision of an operator, or of the first replica in which the canary failed."""

    trial: str
    """The canary, as `Trial.digest`."""
    course: Course


def compose(base: RouteTable, overrides: Mapping[str, Override]) -> tuple[RouteTable, dict[str, str]]:
    """(table with all valid overrides, reason by model for the others)."""
    kept, refused = dict(sorted(overrides.items())), dict[str, str]()
    while True:
        routes = {route.model: route for route in base.routes}
        for model, override in kept.items():
            if override.route is not None:
                routes[model] = override.route
            else:
                routes.pop(model, None)
        if not routes:
            refused[kept.popitem()[0]] = "no model would remain"
            continue
        missing = next(((r.model, name) for r in routes.values() for name in r.fallbacks if name not in routes), None)
        if missing is None:
            return RouteTable(revision=base.revision, routes=tuple(routes.values()), tenants=base.tenants), refused
        model, name = missing
        # Configured routes only name existing models, so the cause is the withdrawal of the other model.
        culprit = model if model in kept else name
        refused[culprit] = f"{model} falls back to {name}, which would not exist"
        del kept[culprit]


class Overrides:
    """The current table: configured or discovered routes, with operators' overrides."""

    def __init__(self, base: RouteTable, changed: Callable[[RouteTable], None]) -> None:
        self.base = base
        self._changed = changed
        self.entries: dict[str, Override] = {}
        self.refused: dict[str, str] = {}
        """Overrides that do not fit the current configuration, with reasons."""

    def rebase(self, base: RouteTable) -> None:
        """Use other configured or discovered routes."""
        self.base = base
        self._compose()

    def put(self, model: str, override: Override | None) -> None:
        """Set an override, or remove it (None)."""
        if override is None:
            self.entries.pop(model, None)
        else:
            self.entries[model] = override
        self._compose()

    def _compose(self) -> None:
        table, self.refused = compose(self.base, self.entries)
        for model, reason in self.refused.items():
            log.error("an override is not applied", model=model, reason=reason)
        self._changed(table)
