"""How the AI Router treats requests for a model: retries, time limits, fallbacks, cached answers."""

from __future__ import annotations

from enum import StrEnum

from components.config.base import Change, ModelName, Section, setting


class AnswerCache(Section):
    """Answers given again to equal requests of the same tenant."""

    ttl_seconds: int = setting(Change.SAFE, "How long an answer is kept", default=300, ge=1, le=86_400)
    any_temperature: bool = setting(
        Change.SAFE, "Keep answers of requests that ask for variety (temperature above 0), too", default=False
    )
    similarity: float = setting(
        Change.SAFE,
        "With services.embeddings: cosine from which on questions are the same; 0: never",
        default=0.0,
        ge=0,
        le=1,
    )


class Guarding(StrEnum):
    """Whether Guardrails looks at what goes to a model and comes from it; where the service is on."""

    OFF = "off"
    ON = "on"
    """It does; requests go on where it does not answer."""
    REQUIRED = "required"
    """It does; no request goes on where it does not answer."""


class Routing(Section):
    """The router's treatment of one model."""

    fallbacks: tuple[ModelName, ...] = setting(
        Change.SAFE,
        "Models that answer where no server of this one does, in order",
        default=(),
        max_length=10,
        strict=False,
    )
    attempts: int = setting(Change.SAFE, "Servers asked for one request, at most", default=3, ge=1, le=10)
    first_token_seconds: int = setting(
        Change.SAFE,
        "Without a first byte for so long, another server is asked instead; 0: never",
        default=0,
        ge=0,
        le=600,
    )
    hedge_milliseconds: int = setting(
        Change.SAFE,
        "Without a first byte for so long, another server is asked as well; 0: never",
        default=0,
        ge=0,
        le=60_000,
    )
    guardrails: Guarding = setting(
        Change.SAFE, "With services.guardrails: off, on or required", default=Guarding.ON, strict=False
    )
    cache: AnswerCache | None = setting(Change.SAFE, "Keep answers; else: always ask", default=None)
