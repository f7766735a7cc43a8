"""How the AI Router handles requests for a model: retries, timeouts, fallbacks, answer cache."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, ModelName, Section, setting, several
from components.services.registry import EMBEDDER


class AnswerCache(Section):
    """Cache of answers, reused for equal requests of the same tenant."""

    ttl_seconds: int = setting(Change.SAFE, "Seconds that an answer is kept", default=300, ge=1, le=86_400)
    any_temperature: bool = setting(
        Change.SAFE, "Whether answers to requests with a temperature above 0 are cached, too", default=False
    )
    similarity: float = setting(
        Change.SAFE,
        f"Cosine similarity at which two questions count as equal; 0 disables this. Needs services.{EMBEDDER.name}",
        default=0.0,
        ge=0,
        le=1,
    )


class Guarding(StrEnum):
    """Whether Guardrails checks requests to a model and its answers. Has no effect without the Guardrails service."""

    OFF = "off"
    ON = "on"
    """Checked. If Guardrails is unavailable, requests pass unchecked."""
    REQUIRED = "required"
    """Checked. If Guardrails is unavailable, requests are refused."""


class Routing(Section):
    """How the Router handles requests for one model."""

    fallbacks: tuple[ModelName, ...] = several(
        Change.SAFE, "Models that answer when no server of this model does, in order of preference", 10
    )
    attempts: int = setting(Change.SAFE, "Most servers tried for one request", default=3, ge=1, le=10)
    first_token_seconds: int = setting(
        Change.SAFE,
        "Seconds without a first byte after which the request moves to another server; 0 disables this",
        default=0,
        ge=0,
        le=600,
    )
    hedge_milliseconds: int = setting(
        Change.SAFE,
        "Milliseconds without a first byte after which a second server gets the same request; 0 disables this",
        default=0,
        ge=0,
        le=60_000,
    )
    guardrails: Guarding = setting(
        Change.SAFE, "Check by services.guardrails: off, on or required", default=Guarding.ON, strict=False
    )
    cache: AnswerCache | None = setting(Change.SAFE, "Answer cache; without this section it is off", default=None)
