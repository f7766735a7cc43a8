"""The gateway's part of the configuration."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from components.config.base import (
    BodySize,
    Change,
    Hostname,
    Resources,
    Section,
    first_duplicate,
    matching,
    setting,
)
from components.config.eks import AnyCidr
from components.config.problems import violation


class GatewayEngine(StrEnum):
    """What carries the traffic."""

    ENVOY = "envoy"
    """Envoy, from an image of the platform's own."""
    KONG = "kong"
    """Kong with its ingress controller, configured through Gateway API."""


class RateLimit(Section):
    """How many requests the gateway lets through."""

    requests_per_second: int = setting(Change.SAFE, "Sustained rate of each API key", default=500, ge=1, le=100_000)
    burst: int = setting(Change.SAFE, "Requests above the rate in one go", default=1000, ge=1, le=1_000_000)
    address_requests_per_second: int = setting(
        Change.SAFE,
        "Sustained rate of each client address, whatever keys it shows; its burst is twice that",
        default=2000,
        ge=1,
        le=1_000_000,
    )

    @model_validator(mode="after")
    def _burst_covers_rate(self) -> Self:
        if self.burst < self.requests_per_second:
            raise violation(
                "burst must be at least requestsPerSecond", f"set burst to {self.requests_per_second} or more"
            )
        if self.address_requests_per_second < self.requests_per_second:
            raise violation(
                "addressRequestsPerSecond must be at least requestsPerSecond",
                f"set addressRequestsPerSecond to {self.requests_per_second} or more",
            )
        return self


class Oidc(Section):
    """Who may call: tokens of an OpenID Connect provider instead of API keys."""

    issuer: Annotated[str, matching(r"https://[^\s]+", "an https URL", 'write it like "https://login.example.com"')] = (
        setting(Change.DISRUPTIVE, "The provider's issuer")
    )
    audience: str = setting(Change.DISRUPTIVE, "Audience that tokens must have", min_length=1, max_length=200)


Origin = Annotated[
    str,
    Field(max_length=260),
    matching(
        r"https?://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[1-9][0-9]{0,4})?",
        "a web origin: scheme, lower-case host and, if it is not the default, the port; no path, no wildcard",
        'write it like "https://app.example.com" or "http://localhost:3000"',
    ),
]


class Cors(Section):
    """Which web pages may call the platform from a browser."""

    allowed_origins: tuple[Origin, ...] = setting(
        Change.SAFE, "Exact origins of the pages", min_length=1, max_length=50, strict=False
    )
    max_age_seconds: int = setting(
        Change.SAFE, "How long a browser keeps the answer to a preflight request", default=600, ge=0, le=86_400
    )

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if duplicate := first_duplicate(self.allowed_origins):
            raise violation(f'allowedOrigins must be unique; "{duplicate}" is there twice', "remove one")
        return self


class OperatorAccess(Section):
    """From where operators' paths (/v1/admin) are answered at the gateway."""

    public: bool | None = setting(
        Change.SAFE,
        "Whether from everywhere; by default on this machine only. Otherwise through a port-forward (how-to, routes)",
        default=None,
    )
    addresses: tuple[AnyCidr, ...] = setting(
        Change.SAFE,
        "Networks from which they are answered although not public",
        default=(),
        max_length=50,
        strict=False,
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.public and self.addresses:
            raise violation("addresses have no effect with public: true", "remove one of the two")
        if "0.0.0.0/0" in self.addresses:
            raise violation("addresses must not hold 0.0.0.0/0: that is everybody", "name your networks")
        return self


class Gateway(Section):
    """The entrance: hosts, limits, timeouts, who may call."""

    engine: GatewayEngine = setting(Change.DISRUPTIVE, "envoy or kong", default=GatewayEngine.ENVOY, strict=False)
    oidc: Oidc | None = setting(Change.DISRUPTIVE, "With kong: tokens instead of API keys", default=None)
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
    operators: OperatorAccess = setting(Change.SAFE, "Who reaches operators' paths", default=OperatorAccess())
    cors: Cors | None = setting(Change.SAFE, "Web pages that may call; none may without it", default=None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.idle_timeout_seconds > self.request_timeout_seconds:
            raise violation(
                "idleTimeoutSeconds must not exceed requestTimeoutSeconds",
                f"lower idleTimeoutSeconds to {self.request_timeout_seconds} or less",
            )
        if duplicate := first_duplicate(self.hosts):
            raise violation(f'hosts must be unique; "{duplicate}" is there twice', "remove one")
        if self.engine is not GatewayEngine.KONG and self.oidc:
            raise violation("oidc belongs to engine: kong", "set engine: kong, or remove it")
        return self
