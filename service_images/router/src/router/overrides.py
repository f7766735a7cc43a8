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
    """A value of the bucket; what a later version adds is not known here."""

    model_config = ConfigDict(frozen=True)

    by: str
    """Who, as the audit log calls them."""
    at: datetime
    reason: str = ""


class Override(_Kept):
    """A route in place of a model's own; without one the model is withdrawn."""

    route: ModelRoute | None = None


class Course(StrEnum):
    """What was decided of a canary."""

    RUNNING = "running"
    """It begins anew, at its first step."""
    PROMOTED = "promoted"
    """It has all requests, from now on."""
    ABORTED = "aborted"
    """It has none any more."""


class Verdict(_Kept):
    """A decision, of an operator or of the first replica that saw it fail."""

    trial: str
    """Which canary it is about: `Trial.digest`."""
    course: Course


def compose(base: RouteTable, overrides: Mapping[str, Override]) -> tuple[RouteTable, dict[str, str]]:
    """The table with all overrides that fit, and why each of the others does not."""
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
        # A configured route names only models that there are: then it is the other one that was withdrawn.
        culprit = model if model in kept else name
        refused[culprit] = f"{model} falls back to {name}, which would not exist"
        del kept[culprit]


class Overrides:
    """The table in force: the configured one, or what was found, and what operators have put over it."""

    def __init__(self, base: RouteTable, changed: Callable[[RouteTable], None]) -> None:
        self.base = base
        self._changed = changed
        self.entries: dict[str, Override] = {}
        self.refused: dict[str, str] = {}
        """Overrides that do not fit what is configured by now, and why."""

    def rebase(self, base: RouteTable) -> None:
        """Other routes are configured or found."""
        self.base = base
        self._compose()

    def put(self, model: str, override: Override | None) -> None:
        """An override is there, or gone."""
        if override is None:
            self.entries.pop(model, None)
        else:
            self.entries[model] = override
        self._compose()

    def _compose(self) -> None:
        table, self.refused = compose(self.base, self.entries)
        for model, reason in self.refused.items():
            log.error("an override is not in force", model=model, reason=reason)
        self._changed(table)
