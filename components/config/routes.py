"""The routes section of the configuration: one name for several models, for A/B tests, canaries and bandits."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Self

from pydantic import model_validator

from components.config.base import Change, ModelName, Section, first_duplicate, setting
from components.config.problems import violation
from components.config.routing import Routing


class Strategy(StrEnum):
    """How a route chooses a model for a request."""

    WEIGHTED = "weighted"
    """At random by weight, as for an A/B test. With `sticky`, a caller keeps its model."""
    CANARY = "canary"
    """A growing share for the model on trial, withdrawn if it fails too often or is too slow."""
    BANDIT = "bandit"
    """The model with the best latency, cost and user feedback, learned from the requests."""
    LEAST_LATENCY = "least-latency"
    """The model with the lowest latency."""
    CONSISTENT_HASH = "consistent-hash"
    """Requests of the same caller go to the same model."""
    PREFIX = "prefix"
    """Prompts with the same prefix go to the same model, whose prefix cache still holds it."""


class RouteTarget(Section):
    """A model that a route may choose."""

    model: ModelName = setting(Change.SAFE, "Name of an entry in models")
    weight: float = setting(
        Change.SAFE, "Share of the requests, relative to the other weights; 0 means none", default=1, ge=0, le=1_000_000
    )
    input_price: float = setting(Change.SAFE, "Price in USD per million input tokens", default=0, ge=0, le=100_000)
    output_price: float = setting(Change.SAFE, "Price in USD per million output tokens", default=0, ge=0, le=100_000)


class RouteCanary(Section):
    """Canary release of one model of a route."""

    model: ModelName = setting(Change.SAFE, "Model on trial; must be one of targets")
    steps: tuple[float, ...] = setting(
        Change.SAFE,
        "Shares of the requests for the model on trial, in increasing order",
        default=(0.01, 0.05, 0.25, 0.5, 1.0),
        max_length=20,
        strict=False,
    )
    requests_per_step: int = setting(
        Change.SAFE, "Requests to the model on trial before the next step", default=100, ge=1, le=1_000_000
    )
    max_error_ratio: float = setting(
        Change.SAFE, "Share of failed requests in a step that ends the trial", default=0.05, ge=0, le=1
    )
    max_latency_ratio: float = setting(
        Change.SAFE, "Mean latency relative to the other models that ends the trial", default=1.5, ge=1, le=100
    )

    @model_validator(mode="after")
    def _growing(self) -> Self:
        steps = self.steps
        grows = all(one < other for one, other in pairwise(steps))
        if not steps or not grows or not 0 < steps[0] <= steps[-1] <= 1:
            raise violation("shares above 0, growing, at most 1", "write steps like [0.05, 0.5, 1.0]")
        return self


class Route(Section):
    """A model name for clients, and the models that answer requests for it."""

    name: ModelName = setting(Change.DISRUPTIVE, "Model name in clients' requests")
    targets: tuple[RouteTarget, ...] = setting(
        Change.SAFE, "Models that answer", min_length=1, max_length=20, strict=False
    )
    strategy: Strategy = setting(
        Change.SAFE,
        "Choice of the model: weighted, canary, bandit, least-latency, consistent-hash or prefix",
        default=Strategy.WEIGHTED,
        strict=False,
    )
    sticky: bool = setting(Change.SAFE, "Whether a caller keeps its model; with strategy: weighted only", default=False)
    canary: RouteCanary | None = setting(Change.SAFE, "The trial; with strategy: canary only", default=None)
    routing: Routing = setting(Change.SAFE, "Retries, timeouts, fallbacks, answer cache", default=Routing())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = tuple(target.model for target in self.targets)
        if twice := first_duplicate(names):
            raise violation("models of targets must be unique", f'name "{twice}" once')
        if not any(target.weight for target in self.targets):
            raise violation("at least one weight above 0", "give a target a weight")
        if (self.strategy is Strategy.CANARY) != (self.canary is not None):
            raise violation(
                "canary is required with strategy: canary, and not allowed with others",
                "add canary, or change strategy",
            )
        if self.canary is not None and (self.canary.model not in names or len(names) < 2):
            raise violation("canary.model is one of at least two targets", f"name one of: {', '.join(names)}")
        if self.sticky and self.strategy is not Strategy.WEIGHTED:
            raise violation("sticky belongs to strategy: weighted", "remove sticky, or use consistent-hash")
        return self
