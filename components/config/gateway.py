"""The gateway section of the configuration."""

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
    several,
)
from components.config.eks import AnyCidr
from components.config.pod import GatewayPod, pod_setting
from components.config.problems import violation


class GatewayEngine(StrEnum):
    """Proxy that the gateway runs."""

    ENVOY = "envoy"
    """Envoy, from the platform's own image."""
    KONG = "kong"
    """Kong with its ingress controller, configured through the Gateway API."""


class RateLimit(Section):
    """Rate limits for requests at the gateway."""

    requests_per_second: int = setting(
        Change.SAFE, "Sustained requests per second per API key", default=500, ge=1, le=100_000
    )
    burst: int = setting(
        Change.SAFE,
        "Requests per API key that may come at once, beyond the sustained rate",
        default=1000,
        ge=1,
        le=1_000_000,
    )
    address_requests_per_second: int = setting(
        Change.SAFE,
        "Sustained requests per second per client address, with any keys; the burst is twice this value",
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
    """Authentication with tokens of an OpenID Connect provider, instead of API keys."""

    issuer: Annotated[str, matching(r"https://[^\s]+", "an https URL", 'write it like "https://login.example.com"')] = (
        setting(Change.DISRUPTIVE, "Issuer URL of the provider")
    )
    audience: str = setting(Change.DISRUPTIVE, "Audience that tokens must name", min_length=1, max_length=200)


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
    """Cross-origin requests: web pages that may call the platform from a browser."""

    allowed_origins: tuple[Origin, ...] = setting(
        Change.SAFE, "Exact origins of the allowed pages", min_length=1, max_length=50, strict=False
    )
    max_age_seconds: int = setting(
        Change.SAFE, "Seconds that a browser may cache the answer to a preflight request", default=600, ge=0, le=86_400
    )

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        if duplicate := first_duplicate(self.allowed_origins):
            raise violation(f'allowedOrigins must be unique; "{duplicate}" occurs twice', "remove one")
        return self


class OperatorAccess(Section):
    """Addresses that may use the operators' paths (/v1/admin) at the gateway."""

    public: bool | None = setting(
        Change.SAFE,
        "Whether every address may; the default is true in the local environment only. Elsewhere, use a port-forward "
        "(how-to: routes)",
        default=None,
    )
    addresses: tuple[AnyCidr, ...] = several(
        Change.SAFE, "Networks that may use the operators' paths while public is false", 50
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.public and self.addresses:
            raise violation("addresses have no effect with public: true", "remove one of the two")
        if "0.0.0.0/0" in self.addresses:
            raise violation("addresses must not contain 0.0.0.0/0, which is every address", "name your networks")
        return self


class Gateway(Section):
    """The entrance for all requests from outside: host names, limits, timeouts, authentication."""

    engine: GatewayEngine = setting(
        Change.DISRUPTIVE, "Proxy: envoy or kong", default=GatewayEngine.ENVOY, strict=False
    )
    oidc: Oidc | None = setting(Change.DISRUPTIVE, "Tokens instead of API keys; with engine: kong only", default=None)
    hosts: tuple[Hostname, ...] = setting(
        Change.DISRUPTIVE,
        "Host names of the platform; the certificate covers them",
        min_length=1,
        max_length=20,
        strict=False,
    )
    port: int = setting(Change.DISRUPTIVE, "HTTPS port for clients", default=443, ge=1, le=65535)
    replicas: int = setting(Change.SAFE, "Number of proxy replicas", default=1, ge=1, le=50)
    resources: Resources = setting(Change.SAFE, "Resources per replica", default=Resources(cpu="50m", memory="192Mi"))
    pod: GatewayPod = pod_setting(GatewayPod)
    request_timeout_seconds: int = setting(
        Change.SAFE, "Longest duration of a request, streams included", default=300, ge=1, le=3600
    )
    idle_timeout_seconds: int = setting(Change.SAFE, "Longest time without data on a stream", default=60, ge=1, le=3600)
    max_body_size: BodySize = setting(Change.SAFE, "Largest request body", default="16Mi")
    rate_limit: RateLimit = setting(Change.SAFE, "Rate limits", default=RateLimit())
    operators: OperatorAccess = setting(Change.SAFE, "Access to the operators' paths", default=OperatorAccess())
    cors: Cors | None = setting(
        Change.SAFE, "Cross-origin access for web pages; without this section none is allowed", default=None
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.idle_timeout_seconds > self.request_timeout_seconds:
            raise violation(
                "idleTimeoutSeconds must not exceed requestTimeoutSeconds",
                f"lower idleTimeoutSeconds to {self.request_timeout_seconds} or less",
            )
        if duplicate := first_duplicate(self.hosts):
            raise violation(f'hosts must be unique; "{duplicate}" occurs twice', "remove one")
        if self.engine is not GatewayEngine.KONG and self.oidc:
            raise violation("oidc belongs to engine: kong", "set engine: kong, or remove it")
        if self.engine is not GatewayEngine.KONG and self.pod.sidecars != GatewayPod().sidecars:
            raise violation("pod.sidecars.controller belongs to engine: kong", "set engine: kong, or remove it")
        return self
