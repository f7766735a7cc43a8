"""Names under which several models answer: A/B tests, canaries, bandits."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Self

from pydantic import model_validator

from components.config.base import Change, ModelName, Section, first_duplicate, setting
from components.config.problems import violation
from components.config.routing import Routing


class Strategy(StrEnum):
    """How one of a route's models is chosen."""

    WEIGHTED = "weighted"
    """By weight: an A/B test; with `sticky`, a caller stays with its model."""
    CANARY = "canary"
    """A growing share for one of them, taken back where it errs or is slow."""
    BANDIT = "bandit"
    """Whichever is doing best by latency, cost and what users say."""
    LEAST_LATENCY = "least-latency"
    """The one that answers soonest."""
    CONSISTENT_HASH = "consistent-hash"
    """The same caller to the same model."""
    PREFIX = "prefix"
    """The same beginning of a prompt to the same model, whose cache still has it."""


class RouteTarget(Section):
    """One model of a route."""

    model: ModelName = setting(Change.SAFE, "One of models")
    weight: float = setting(Change.SAFE, "Share, relative to the others'; 0: none", default=1, ge=0, le=1_000_000)
    input_price: float = setting(Change.SAFE, "US dollars per million input tokens", default=0, ge=0, le=100_000)
    output_price: float = setting(Change.SAFE, "US dollars per million output tokens", default=0, ge=0, le=100_000)


class RouteCanary(Section):
    """A trial of one model of a route."""

    model: ModelName = setting(Change.SAFE, "The model on trial, one of the route's targets")
    steps: tuple[float, ...] = setting(
        Change.SAFE,
        "Shares of the requests, growing",
        default=(0.01, 0.05, 0.25, 0.5, 1.0),
        max_length=20,
        strict=False,
    )
    requests_per_step: int = setting(Change.SAFE, "Requests that a step takes", default=100, ge=1, le=1_000_000)
    max_error_ratio: float = setting(
        Change.SAFE, "Failures of a step at which it is taken back", default=0.05, ge=0, le=1
    )
    max_latency_ratio: float = setting(
        Change.SAFE, "Mean latency, relative to the others', at which it is taken back", default=1.5, ge=1, le=100
    )

    @model_validator(mode="after")
    def _growing(self) -> Self:
        steps = self.steps
        grows = all(one < other for one, other in pairwise(steps))
        if not steps or not grows or not 0 < steps[0] <= steps[-1] <= 1:
            raise violation("shares above 0, growing, at most 1", "write steps like [0.05, 0.5, 1.0]")
        return self


class Route(Section):
    """A name that clients ask, and the models that answer to it."""

    name: ModelName = setting(Change.DISRUPTIVE, "Name that clients use")
    targets: tuple[RouteTarget, ...] = setting(
        Change.SAFE, "The models that answer", min_length=1, max_length=20, strict=False
    )
    strategy: Strategy = setting(Change.SAFE, "How one is chosen", default=Strategy.WEIGHTED, strict=False)
    sticky: bool = setting(Change.SAFE, "With weighted: a caller stays with its model", default=False)
    canary: RouteCanary | None = setting(Change.SAFE, "With canary: the trial", default=None)
    routing: Routing = setting(Change.SAFE, "Retries, time limits, fallbacks, cached answers", default=Routing())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = tuple(target.model for target in self.targets)
        if twice := first_duplicate(names):
            raise violation("models of targets must be unique", f'name "{twice}" once')
        if not any(target.weight for target in self.targets):
            raise violation("at least one weight above 0", "give a target a weight")
        if (self.strategy is Strategy.CANARY) != (self.canary is not None):
            raise violation("canary and strategy: canary go together", "add the one, or remove the other")
        if self.canary is not None and (self.canary.model not in names or len(names) < 2):
            raise violation("canary.model is one of at least two targets", f"name one of: {', '.join(names)}")
        if self.sticky and self.strategy is not Strategy.WEIGHTED:
            raise violation("sticky belongs to strategy: weighted", "remove sticky, or use consistent-hash")
        return self
