"""The gateway's part of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import model_validator

from components.config_base import (
    BodySize,
    Change,
    DnsLabel,
    Hostname,
    ModelName,
    Resources,
    Section,
    first_duplicate,
    matching,
    setting,
)
from components.config_problems import violation


class GatewayEngine(StrEnum):
    """What carries the traffic."""

    ENVOY = "envoy"
    """Envoy, from an image of the platform's own."""
    KONG = "kong"
    """Kong with its ingress controller, configured through Gateway API."""


class Provider(StrEnum):
    """Who runs an external model, as Kong's ai-proxy names it."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    AZURE = "azure"
    BEDROCK = "bedrock"
    GEMINI = "gemini"
    MISTRAL = "mistral"


class RateLimit(Section):
    """How many requests the gateway lets through."""

    requests_per_second: int = setting(Change.SAFE, "Sustained rate, all clients", default=500, ge=1, le=100_000)
    burst: int = setting(Change.SAFE, "Requests above the rate in one go", default=1000, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _burst_covers_rate(self) -> Self:
        if self.burst < self.requests_per_second:
            raise violation(
                "burst must be at least requestsPerSecond", f"set burst to {self.requests_per_second} or more"
            )
        return self


class Oidc(Section):
    """Who may call: tokens of an OpenID Connect provider instead of API keys."""

    issuer: Annotated[str, matching(r"https://[^\s]+", "an https URL", 'write it like "https://login.example.com"')] = (
        setting(Change.DISRUPTIVE, "The provider's issuer")
    )
    audience: str = setting(Change.DISRUPTIVE, "Audience that tokens must have", min_length=1, max_length=200)


class ExternalModel(Section):
    """A model of somebody else's, asked through the gateway; clients never see its credential."""

    name: DnsLabel = setting(Change.DISRUPTIVE, "Clients ask it under /<name>/")
    provider: Provider = setting(Change.DISRUPTIVE, "Who runs it", strict=False)
    model: ModelName = setting(Change.DISRUPTIVE, "The provider's name of the model")
    secret_name: DnsLabel = setting(
        Change.SAFE, 'Secret in the platform\'s namespace; its entry "authorization" is the whole header, as JSON text'
    )


class Gateway(Section):
    """The entrance: hosts, limits, timeouts, who may call."""

    engine: GatewayEngine = setting(Change.DISRUPTIVE, "envoy or kong", default=GatewayEngine.ENVOY, strict=False)
    oidc: Oidc | None = setting(Change.DISRUPTIVE, "With kong: tokens instead of API keys", default=None)
    external_models: tuple[ExternalModel, ...] = setting(
        Change.SAFE, "With kong: models of others", default=(), max_length=50, strict=False
    )
    hosts: tuple[Hostname, ...] = setting(
        Change.DISRUPTIVE, "Host names that the certificate covers", min_length=1, max_length=20, strict=False
    )
    port: int = setting(Change.DISRUPTIVE, "HTTPS port that clients use", default=443, ge=1, le=65535)
    replicas: int = setting(Change.SAFE, "Data plane replicas", default=1, ge=1, le=50)
    resources: Resources = setting(Change.SAFE, "Per replica", default=Resources(cpu="50m", memory="192Mi"))
    request_timeout_seconds: int = setting(Change.SAFE, "Whole request, streams included", default=300, ge=1, le=3600)
    idle_timeout_seconds: int = setting(Change.SAFE, "Stream without data", default=60, ge=1, le=3600)
    max_body_size: BodySize = setting(Change.SAFE, "Largest request body", default="16Mi")
    rate_limit: RateLimit = setting(Change.SAFE, "Requests let through", default=RateLimit())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.idle_timeout_seconds > self.request_timeout_seconds:
            raise violation(
                "idleTimeoutSeconds must not exceed requestTimeoutSeconds",
                f"lower idleTimeoutSeconds to {self.request_timeout_seconds} or less",
            )
        if duplicate := first_duplicate(self.hosts):
            raise violation(f'hosts must be unique; "{duplicate}" is there twice', "remove one")
        if duplicate := first_duplicate(tuple(m.name for m in self.external_models)):
            raise violation(f'externalModels must be unique; "{duplicate}" is there twice', "rename one")
        if self.engine is not GatewayEngine.KONG and (self.oidc or self.external_models):
            raise violation("oidc and externalModels belong to engine: kong", "set engine: kong, or remove them")
        return self
